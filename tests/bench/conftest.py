"""What tests of all rooms of bench/ may ask for."""

import base64

import pytest

WEBP = base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvAAAAAAfQ//73v/+BiOh/AAA=")
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def draw_nothing(patch):
    """Figures are a pixel each, for reports of which something else is read: what is drawn is tested in figures/."""
    from bench.report.figures import drawing

    for kind in ("png", "svg", "pdf"):
        patch.setattr(drawing.Figure, kind, PIXEL)
    patch.setattr(drawing.Figure, "webp", WEBP)


@pytest.fixture
def undrawn(monkeypatch):
    """In this test nothing is drawn."""
    draw_nothing(monkeypatch)
