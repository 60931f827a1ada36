"""What a run ends with, and the tables of `bench report`."""

import re

import pytest

from bench.report.terminal import closing
from bench.score.first_screen import first_screen
from bench.store.rows import read_rows
from bench.tuning.targets import GROUPS, Targets
from tests.bench.noisy_rows import make_frames
from tests.bench.report.browser.pages import LEVELS, ROWS
from tests.bench.report.reading import render_terminal


def closing_of(names, *, targets=True):
    """The lines, and the screen that they are of: two tasks, five seeds, made-up numbers."""
    cells, curves = make_frames({name: ROWS[name] for name in names}, ("digits_mlp", "digits_conv"))
    levels = {name: {"train_loss": LEVELS, "validation_loss": LEVELS} for name in ("adam", "muon")}
    known = {
        task: Targets(task, 500, levels, dict.fromkeys(GROUPS, "adam"), made_at="", digest="", identities={})
        for task in ("digits_mlp", "digits_conv")
    }
    screen = first_screen(read_rows(cells, curves), known if targets else {}, "made", "local", "cpu", "lopt")
    return closing(screen), screen, cells


def test_four_lines_have_the_verdict_the_losses_the_cost_and_the_controls():
    lines, screen, cells = closing_of(("adam", "muon", "lopt", "adam_again", "adam_twice", "adam_frozen", "adam_10x"))
    assert [line.split(":")[0] for line in lines] == ["verdict", "final test loss", "cost of a step", "controls"]
    assert lines[0].startswith(f"verdict: {screen.scores.word.capitalize()}. Speed-up of lopt in wall-clock")
    means = cells[cells["kind"] == "train"].groupby("optimizer")["final_test_loss"].mean()
    best = means[["adam", "muon"]].idxmin()
    found = re.fullmatch(r"final test loss: lopt ([\d.]+) .*; lowest hand-designed (\w+) ([\d.]+) .*", lines[1])
    assert found
    assert found[2] == best
    assert float(found[1]) == pytest.approx(means["lopt"], abs=0.01)
    assert float(found[3]) == pytest.approx(means[best], abs=0.01)
    assert re.match(rf"cost of a step: lopt takes [\d.]+ \[.*\] times as long as {best}$", lines[2])
    assert re.match(r"controls: \d of \d as expected", lines[3])


def test_what_there_is_nothing_to_say_of_is_said_so():
    lines, *_ = closing_of(("adam", "muon"), targets=False)
    assert lines[0] == "verdict: No learned optimizer is among the rows: there is nothing to judge"
    assert lines[1].startswith("final test loss: lowest hand-designed ")
    assert lines[2] == "cost of a step: not timed against a learned optimizer"
    assert lines[3] == "controls: none"
    lines, *_ = closing_of(("lopt",), targets=False)
    assert lines[0].startswith("verdict: No claim: no frozen targets")
    assert re.match(r"final test loss: lopt [\d.]+ ", lines[1])


def test_the_terminal_table_fits_80_columns(full):
    cells, curves, *_ = full
    text = render_terminal(cells, curves)
    assert max(map(len, text.splitlines())) <= 80
    assert "4/5" in text
