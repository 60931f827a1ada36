"""Names in a margin."""

import pytest

from bench.report.figures import axes


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0.0, 0.01, 0.5], [0.0, 0.05, 0.5]),
        ([0.98, 0.99], [0.95, 1.0]),
        ([0.2], [0.2]),
    ],
)
def test_names_in_the_margin_are_moved_apart(heights, places):
    assert axes.spread(heights, gap=0.05) == pytest.approx(places)


def test_a_long_name_keeps_both_ends():
    assert axes.short("lopt", 10) == "lopt"
    assert axes.short("imagenet32_cnn3/outer_validation/12", 16) == "imagenet32…on/12"
    assert len(axes.short("x" * 99, 28)) == 28
