"""The table at the end of a run."""

from tests.bench.report.reading import render_terminal


def test_the_terminal_table_fits_80_columns(full):
    cells, curves, *_ = full
    text = render_terminal(cells, curves)
    assert max(map(len, text.splitlines())) <= 80
    assert "4/5" in text
