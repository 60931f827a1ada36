"""An image made when asked for, and the looks that an optimizer keeps in all of them.

An optimizer keeps its colour, line and marker over the whole report; learned ones are solid, thick and on top. The
object-oriented matplotlib interface leaves no figure open and no global state behind.
"""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from PIL import Image

from bench.store.rows import LEARNED, Rows

# Okabe and Ito's colours, told apart by colour-blind readers (jfly.uni-koeln.de/color), yellow left out on white;
# grey and brown added.
HAND_DESIGNED_COLORS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#777777", "#7F4F24")
HAND_DESIGNED_DASHES = (
    *((0, (6, 1.5)), (0, (2.2, 0.9)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1))),
    *((0, (10, 3)), (0, (3, 3)), (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)), (0, (1, 3))),
)
LEARNED_COLORS = ("#D55E00", "#000000", "#882255")
MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">")
SCHEDULED = "_cosine"  # what the names of scheduled rows end in

DPI = 125
NUM_COLORS = 256  # of a PNG: a third of the bytes, and no difference to be seen
PAGE_DPI = 100  # half a page is hardly wider than an image then is, and its smallest letters are 12 pixels high
PAGE_COLORS = 48  # at this size no difference to be seen either
STYLE: Any = {  # the type of the keys is private to matplotlib
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#666666",
    "text.parse_math": False,  # a name with a dollar sign is a name
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # text as text is laid out anew with whatever font the reader has
    "svg.hashsalt": "lopt-bench",  # else identifiers are random
    "pdf.fonttype": 42,  # conferences refuse Type 3 fonts
}


@dataclass(frozen=True)
class Figure:
    """An image with what a reader who cannot see it is told, and the caption below it.

    Attributes:
      slug: part of file names and anchors.
      alt: what the image says, with its numbers.
      caption: how to read it.
      draw: makes the canvas; not called before the bytes of a format are asked for.
      wide: whether it is too detailed for half a page.
      tall: whether two others fit beside it, one below the other.
    """

    slug: str
    alt: str
    caption: str
    draw: Callable[[], Canvas] = field(repr=False, compare=False)
    wide: bool = False
    tall: bool = False

    def image(self, dpi: float = DPI) -> Image.Image:
        """The image in all its colours."""
        with _style():
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
        with _style():
            FigureCanvasSVG(_laid_out(self.draw, DPI)).print_svg(out, metadata={"Date": None, "Creator": None})
        return out.getvalue().encode()

    @cached_property
    def pdf(self) -> bytes:
        """The image as PDF, for papers; the same bytes for the same rows."""
        out = io.BytesIO()
        nameless = {"CreationDate": None, "Creator": None, "Producer": None}
        with _style():
            FigureCanvasPdf(_laid_out(self.draw, DPI)).print_pdf(out, metadata=nameless)
        return out.getvalue()

    @property
    def data_uri(self) -> str:
        """The image as text for the page."""
        return "data:image/webp;base64," + base64.b64encode(self.webp).decode("ascii")


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


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes; the tables still spell it.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


@dataclass(frozen=True)
class Style:
    """How one optimizer looks in every figure."""

    color: str
    linestyle: Any
    linewidth: float
    zorder: float
    marker: str


def optimizer_styles(rows: Rows) -> dict[str, Style]:
    """Colour, line and marker of each optimizer, by its place among the sorted names.

    Hand-designed: a colour for each rule, dashes and marker for its rate, constant or scheduled, so that `adam` and
    `adam_cosine` are of one colour. With more rules than colours, a colour comes back with other dashes.
    """
    styles = {}
    learned = [name for name in rows.optimizers if rows.role(name) == LEARNED]
    others = [name for name in rows.optimizers if rows.role(name) != LEARNED]
    for i, name in enumerate(learned):
        dashes = "-" if i < len(LEARNED_COLORS) else HAND_DESIGNED_DASHES[i % len(HAND_DESIGNED_DASHES)]
        styles[name] = Style(LEARNED_COLORS[i % len(LEARNED_COLORS)], dashes, 2.6, 5, "D")
    rules = sorted({name.removesuffix(SCHEDULED) for name in others})
    for name in others:
        repeat, place = divmod(rules.index(name.removesuffix(SCHEDULED)), len(HAND_DESIGNED_COLORS))
        look = (2 * repeat + (not name.endswith(SCHEDULED))) % len(HAND_DESIGNED_DASHES)
        width = 1.7 if name.endswith(SCHEDULED) else 1.3
        styles[name] = Style(HAND_DESIGNED_COLORS[place], HAND_DESIGNED_DASHES[look], width, 3, MARKERS[look])
    return styles
