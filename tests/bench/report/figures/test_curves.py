"""Levels and leaders in the figures of losses."""

import math

from bench.report import figures
from bench.report.figures import curves
from tests.bench import synthetic
from tests.bench.pairs import REFERENCE, raced
from tests.bench.report.figures.drawn import by_slug, frozen_from, of_race
from tests.bench.synthetic import falling, rows_of


def test_target_levels_of_the_reference_are_drawn_in_validation_loss_and_named():
    found = of_race(raced(falling(0.02)))
    assert found["validation_loss_steps_t"].alt.endswith("Targets: hard 2, medium 2.5, easy 2.75.")
    texts = {text.get_text() for text in found["validation_loss_steps_t"].draw().axes[0].texts}
    assert {"hard", "medium", "easy"} <= texts
    texts = {text.get_text() for text in found["train_loss_steps_t"].draw().axes[0].texts}
    assert not {"hard", "medium", "easy"} & texts


def test_an_infinite_level_is_left_out():
    found = synthetic.frozen({REFERENCE: (math.inf, 2.5, 2.75)})
    assert curves.target_levels({"t": found}, "t") == {"medium": 2.5, "easy": 2.75}


def test_leaders_are_the_learned_the_references_and_who_is_tuned_by_train_loss():
    names = ("adam", "muon", "sgd_momentum", "rmsprop", "lion", "adafactor", "muon_cosine_by_train", "lopt")
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in names}}, {}, {"lopt": "learned"})
    styles, frozen = figures.optimizer_styles(rows), frozen_from(rows, "adam")
    assert "leaders_train_loss_seconds" not in by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))
    blocks = {"t": dict.fromkeys(names, [1.0] * 6)}
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in names}}, blocks, {"lopt": "learned"})
    found = by_slug(figures.overview_figures(rows, styles, frozen, "lopt", {}))
    alt = found["leaders_train_loss_seconds"].alt
    assert {name for name in names if f"{name} " in alt} == {"adam", "muon_cosine_by_train", "lopt"}
    few = names[4:]
    rows = rows_of({"t": {name: [falling(0.01)] * 5 for name in few}}, {"t": dict.fromkeys(few, [1.0] * 6)}, {})
    assert not [slug for slug in by_slug(figures.overview_figures(rows, styles, frozen, None, {})) if "lead" in slug]
