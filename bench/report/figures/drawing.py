"""An image made when asked for, as PNG, WebP, SVG or PDF; no figure is left open and no global state behind."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from PIL import Image

from bench.report.figures.theme import themed

DPI = 125
NUM_COLORS = 256  # of a PNG: a third of the bytes, and no difference to be seen
PAGE_DPI = 100  # half a page is hardly wider than an image then is, and its smallest letters are 12 pixels high
PAGE_COLORS = 48  # at this size no difference to be seen either


@dataclass(frozen=True)
class Figure:
    """An image with what a reader who cannot see it is told, and the caption below it.

    Attributes:
      slug: part of file names and anchors.
      alt: what the image says, with its numbers.
      caption: how to read it.
      draw: makes the canvas; not called before the bytes of a format are asked for.
      wide: whether it is too detailed for half a page.
      chart: makes what the page's script draws in its place, to point at and to take lines away from; JSON-ready.
    """

    slug: str
    alt: str
    caption: str
    draw: Callable[[], Canvas] = field(repr=False, compare=False)
    wide: bool = False
    chart: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)

    def image(self, dpi: float = DPI) -> Image.Image:
        """The image in all its colours."""
        with themed():
            canvas = _laid_out(self.draw, dpi)
            canvas.set_dpi(dpi)  # writing SVG or PDF sets another
            agg = FigureCanvasAgg(canvas)
            agg.draw()
            return Image.fromarray(np.asarray(agg.buffer_rgba())[..., :3])

    @cached_property
    def png(self) -> bytes:
        """The image with a palette of `NUM_COLORS`."""
        out = io.BytesIO()
        _in_few_colors(self.image(), NUM_COLORS).save(out, "PNG", optimize=True)
        return out.getvalue()

    @cached_property
    def webp(self) -> bytes:
        """The image as the page has it: a third of the PNG's bytes, by fewer pixels and colours, without loss else."""
        out = io.BytesIO()
        image = _in_few_colors(self.image(DPI if self.wide else PAGE_DPI), PAGE_COLORS).convert("RGB")
        image.save(out, "WEBP", lossless=True, quality=100, method=4)  # 6: a thousandth smaller, 50 times slower
        return out.getvalue()

    @cached_property
    def svg(self) -> bytes:
        """The image as SVG, letters as outlines; the same bytes for the same rows."""
        out = io.StringIO()
        with themed():
            FigureCanvasSVG(_laid_out(self.draw, DPI)).print_svg(out, metadata={"Date": None, "Creator": None})
        return out.getvalue().encode()

    @cached_property
    def pdf(self) -> bytes:
        """The image as PDF, for papers; the same bytes for the same rows."""
        out = io.BytesIO()
        nameless = {"CreationDate": None, "Creator": None, "Producer": None}
        with themed():
            FigureCanvasPdf(_laid_out(self.draw, DPI)).print_pdf(out, metadata=nameless)
        return out.getvalue()

    @property
    def data_uri(self) -> str:
        """The image as text for the page."""
        return "data:image/webp;base64," + base64.b64encode(self.webp).decode("ascii")


def detached(canvas: Canvas) -> Canvas:
    """A figure of one of seaborn's grids, which pyplot makes, off pyplot's list and with the layout of all others."""
    plt.close(canvas)
    canvas.set_layout_engine("constrained")
    return canvas


def _in_few_colors(image: Image.Image, number: int) -> Image.Image:
    """The image with a palette: colours that cover rare ones, as a legend's, then means for tints."""
    coverage, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    return image.quantize(number, method=coverage, kmeans=1, dither=plain)


@lru_cache(maxsize=1)  # the formats of one figure, asked for one after the other, share the work of the layout
def _laid_out(draw: Callable[[], Canvas], dpi: float) -> Canvas:
    """A canvas whose layout is settled, so that every format has the same one: how wide letters are goes by the dpi."""
    canvas = draw()
    canvas.set_dpi(dpi)
    FigureCanvasAgg(canvas)
    engine = canvas.get_layout_engine()
    if engine is not None:
        engine.execute(canvas)
    canvas.set_layout_engine("none")
    return canvas
