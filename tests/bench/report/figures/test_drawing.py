"""How a figure is rendered: when it is asked for, to the same bytes, in few colours."""

import colorsys
import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from PIL import Image

from baselines import BASELINES
from bench.report import figures
from bench.report.figures import drawing, theme
from bench.store.rows import read_rows
from tests.bench.noisy_rows import OPTIMIZERS, make_frames
from tests.bench.report.figures.drawn import by_slug, every_figure

pytestmark = pytest.mark.slow  # drawing


def test_nothing_is_drawn_before_it_is_asked_for(three_tasks, monkeypatch):
    rows, found_targets, marks = three_tasks

    def refuse(*args, **kwargs):
        raise AssertionError("drawn")

    monkeypatch.setattr("matplotlib.figure.Figure.__init__", refuse)
    drawn = every_figure(rows, found_targets, "lopt", marks)
    assert len(drawn) > 20
    assert all(len(figure.alt) > 40 and figure.caption.endswith(".") for figure in drawn)
    with pytest.raises(AssertionError, match="drawn"):
        drawn[0].png  # noqa: B018


def test_the_same_rows_give_the_same_bytes_whatever_is_asked_for_first(three_tasks):
    slugs = ("time_to_target_a", "speedup_by_task")
    first, second = (by_slug(every_figure(three_tasks[0], three_tasks[1], "lopt", three_tasks[2])) for _ in range(2))
    for slug in slugs:
        one = {kind: getattr(first[slug], kind) for kind in ("png", "svg", "pdf")}
        other = {kind: getattr(second[slug], kind) for kind in ("pdf", "svg", "png")}
        assert one == other
        assert b"<dc:date>" not in one["svg"]
        assert b"CreationDate" not in one["pdf"]
        assert b"/Subtype /Type3" not in one["pdf"]
        assert first[slug].png is first[slug].png  # rendered once


def test_a_png_has_a_palette_and_a_white_ground(three_tasks):
    rows, found_targets, _ = three_tasks
    figure = figures.task_figures(rows, "a", figures.optimizer_styles(rows), found_targets)[0]
    image = Image.open(io.BytesIO(figure.png))
    assert image.mode == "P"
    assert len(image.getcolors()) <= drawing.NUM_COLORS
    assert image.convert("RGB").getpixel((image.width - 1, 0)) == (255, 255, 255)


def test_the_page_has_the_same_image_in_fewer_bytes(three_tasks):
    rows, found_targets, _ = three_tasks
    figure = figures.task_figures(rows, "a", figures.optimizer_styles(rows), found_targets)[0]
    page = Image.open(io.BytesIO(figure.webp)).convert("RGB")
    assert len(figure.webp) < len(figure.png) / 2
    assert len(page.getcolors()) <= drawing.PAGE_COLORS
    assert page.getpixel((page.width - 1, 0)) == (255, 255, 255)
    # What is drawn at that size, a letter's width included, but for its colours.
    drawn = figure.image(drawing.PAGE_DPI)
    assert page.size == drawn.size
    assert np.abs(np.asarray(page, int) - np.asarray(drawn, int)).mean() < 1


def test_a_colour_that_little_is_drawn_in_stays_what_it_is():
    """As that of a line in a legend, where the curves themselves lie under others."""

    def draw():
        canvas = Canvas(figsize=(5, 4))
        axes = canvas.add_subplot()
        axes.imshow(np.linspace(0, 1, 4096).reshape(64, 64), cmap="viridis")
        axes.plot([50, 58], [5, 5], color="#0072B2")
        axes.plot([50, 58], [9, 9], color="#D55E00")
        return canvas

    figure = drawing.Figure("rare", "", "", draw)
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"), int)
    assert np.abs(image - np.asarray(figure.image(), int)).max() < 32


def test_bands_that_overlap_keep_their_tints():
    """Their mixtures are many, and each is near another's."""
    colors = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#D55E00")
    x = np.linspace(0.0, 6.0, 200)

    def draw():
        canvas = Canvas(figsize=(5, 4))
        for axes in canvas.subplots(2, 2).flat:
            for number, color in enumerate(colors):
                y = np.exp(-x / (number + 2))
                axes.fill_between(x, 0.9 * y, 1.2 * y, color=color, alpha=0.2, linewidth=0)
                axes.plot(x, y, color=color)
        return canvas

    figure = drawing.Figure("bands", "", "", draw)
    image = np.asarray(Image.open(io.BytesIO(figure.png)).convert("RGB"), int)
    beyond = np.abs(image - np.asarray(figure.image(), int)).max(axis=-1) > 12
    assert beyond.mean() < 2e-3


def hue_of(color):
    return colorsys.rgb_to_hls(*to_rgb(color))[0]


def test_a_role_has_a_hue_and_no_two_rows_look_alike():
    names = dict.fromkeys(BASELINES, OPTIMIZERS["adam"]) | {"lopt": OPTIMIZERS["lopt"], "other": OPTIMIZERS["lopt"]}
    rows = read_rows(*make_frames(names, ("t",), 1, num_points=3, timed=False))
    styles = figures.optimizer_styles(rows, "other")
    assert len({(style.color, str(style.dashes)) for style in styles.values()}) == len(names)
    by_role = {}
    for name, style in styles.items():
        by_role.setdefault(theme.role_of(name, rows.role(name)), []).append(style)
    hues = {role: [hue_of(style.color) for style in by_role[role]] for role in theme.ROLES if role in by_role}
    assert set(hues) == {"constant rate", "scheduled", "orthogonalizing"}
    assert all(max(found) - min(found) < 0.07 for found in hues.values())
    assert (styles["adam"].color, styles["muon"].color) != (styles["adam_cosine"].color, styles["muon_cosine"].color)
    assert styles["other"].color == theme.LEARNED_COLORS[0]  # the headline's
    assert styles["lopt"].linewidth > max(style.linewidth for name, style in styles.items() if name in BASELINES)


@pytest.mark.parametrize("name", ["muon", "muonw_cosine", "soap_muon_cosine", "my_muon"])
def test_rows_of_muon_are_orthogonalizing_whatever_their_rate(name):
    assert theme.role_of(name, "hand-designed") == "orthogonalizing"
    assert theme.role_of("mine_cosine", "hand-designed") == "scheduled"
    assert theme.role_of("prodigy", "hand-designed") == "scheduled"  # as its row in the table says
    assert theme.role_of(name, "control") == "control"


# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009): of
# severity 1.0, for linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_roles_are_told_apart_by_colour_blind_readers(deficiency):
    def seen(color):
        rgb = np.array(to_rgb(color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1) ** (1 / 2.2)

    middles = [theme.shades(role, 1)[0] for role in theme.ROLES if role != "control"] + list(theme.LEARNED_COLORS)
    for i, one in enumerate(middles):
        for other in middles[:i]:
            assert np.linalg.norm(seen(one) - seen(other)) > 0.2, (one, other)
