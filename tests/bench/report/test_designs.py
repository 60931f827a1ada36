"""The page of designs."""

import pytest

from bench import measure
from bench.measure import designs
from bench.report import designs as report_designs
from tests.bench.measure.by_hand import designs_by_hand


@pytest.mark.parametrize(
    ("parts", "headings", "figures"),
    [
        (["orthogonal/cost", "lean_mlp_16/cost"], ["costs"], 0),
        (["orthogonal/loss"], ["losses"], 0),
        (["orthogonal/loss", "orthogonal/cost"], ["costs", "losses"], 1),
        (["orthogonal/mlp_loss", "orthogonal/cost"], ["costs", "losses"], 1),
        (["orthogonal/loss", "orthogonal/mlp_loss", "orthogonal/cost"], ["costs", "losses"], 1),
        ([], [], 0),
    ],
)
def test_the_page_of_designs_shows_the_parts_that_were_run(parts, headings, figures, tmp_path):
    cells, curves = designs_by_hand(parts)
    found = report_designs.sections(designs.table(cells, curves), cells, curves)
    assert [section.anchor for section in found] == headings
    assert sum(len(section.figures) for section in found) == figures
    for figure in (figure for section in found for figure in section.figures):
        assert figure.png[:4] == b"\x89PNG"
        assert "orthogonal at 2.000, loss 0.9" in figure.alt
    if "lean_mlp_16/cost" in parts:
        assert "lean_mlp_16 on imagenet32_cnn3 2.0000 [2.0000, 2.0000] (not within 1.08)" in " ".join(
            found[0].paragraphs
        )
    written = measure.write_table(cells, curves, tmp_path)
    assert len(written.read_text().splitlines()) == 1 + len({part.partition("/")[0] for part in parts})
