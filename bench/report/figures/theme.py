"""The look of all figures: one theme of seaborn, and a palette by role.

A role has a hue, and an optimizer a shade of it, a line and a marker, which it keeps over the whole report. Learned
ones are solid, thick and on top.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import seaborn as sns

from baselines import BASELINES
from bench.store.rows import CONTROL, LEARNED, Rows

# Each role's colours from dark to light, the lightest with a contrast of 3 on white. Reddish purple, blue and green as
# of Okabe and Ito (jfly.uni-koeln.de/color), moved apart in lightness until colour-blind readers tell the roles apart.
ROLES = {
    "constant rate": ("#9C2F6B", "#E06AA8"),
    "scheduled": ("#0B3C9C", "#4C8FE0"),
    "orthogonalizing": ("#00402E", "#128A62"),
    "control": ("#4D4D4D", "#8C8C8C"),
}
# Okabe and Ito's own.
LEARNED_COLORS = ("#D55E00", "#000000", "#E69F00")
# Of lines that are no optimizers, such as the estimators of an outer-gradient.
COLORS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#777777", "#7F4F24")
FAILED_COLOR = "#A00000"
# On and off, in widths of the line, as seaborn takes them; "" is solid.
DASHES = ((6, 1.5), (2.2, 0.9), (6, 1.5, 1.5, 1.5), (10, 2), (1.2, 0.8), (4, 1, 1, 1, 1, 1), (3, 2), (1, 2))
MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">")
SCHEDULED = ("_cosine", "_linear")  # what the names of scheduled rows end in
ORTHOGONALIZING = "muon"  # what the names of rows begin with, or a part of them, whose updates are orthogonalized
BAND = 0.16  # opacity

THEME: Any = {  # the type of the keys is private to matplotlib
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.8),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.8,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a name with a dollar sign is a name
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # text as text is laid out anew with whatever font the reader has
    "svg.hashsalt": "lopt-bench",  # else identifiers are random
    "pdf.fonttype": 42,  # conferences refuse Type 3 fonts
}


@contextlib.contextmanager
def themed() -> Iterator[None]:
    """Within it figures have the theme."""
    with matplotlib.rc_context(THEME), warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes; the tables still spell it.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        warnings.filterwarnings("ignore", message="vert: bool", category=matplotlib.MatplotlibDeprecationWarning)
        yield


@dataclass(frozen=True)
class Style:
    """How one optimizer looks in every figure."""

    color: str
    dashes: Any  # as seaborn takes them
    linewidth: float
    zorder: float
    marker: str

    @property
    def linestyle(self) -> Any:
        """The dashes as matplotlib takes them."""
        return (0, self.dashes) if self.dashes else "-"


def role_of(name: str, role: str) -> str:
    """The role that an optimizer's hue is of, one of `ROLES` or "learned".

    Args:
      name: of the optimizer.
      role: as in the rows.
    """
    if role in (LEARNED, CONTROL):
        return role
    if any(part.startswith(ORTHOGONALIZING) for part in name.split("_")):
        return "orthogonalizing"
    row = BASELINES.get(name)
    scheduled = row.scheduled if row else any(end in name for end in SCHEDULED)
    return "scheduled" if scheduled else "constant rate"


def optimizer_styles(rows: Rows, headline: str | None = None) -> dict[str, Style]:
    """The look of each optimizer, by its place among the sorted names of its role.

    The headline has the first of the learned ones' colours. With more of them than colours, one comes back with dashes.
    """
    by_role: dict[str, list[str]] = {}
    for name in rows.optimizers:
        by_role.setdefault(role_of(name, rows.role(name)), []).append(name)
    styles = {}
    for i, name in enumerate(sorted(by_role.pop(LEARNED, []), key=lambda name: name != headline)):
        again = i // len(LEARNED_COLORS)
        dashes = DASHES[(again - 1) % len(DASHES)] if again else ""
        styles[name] = Style(LEARNED_COLORS[i % len(LEARNED_COLORS)], dashes, 2.6, 5, "D")
    for role, names in by_role.items():
        first = 2 * list(ROLES).index(role)  # roles begin with other dashes, for those who see no hue
        for i, (name, color) in enumerate(zip(names, shades(role, len(names)), strict=True), first):
            styles[name] = Style(color, DASHES[i % len(DASHES)], 1.6, 3, MARKERS[i % len(MARKERS)])
    return styles


def shades(role: str, number: int) -> list[str]:
    """Colours of a role, from dark to light; of one alone, the middle."""
    ends = sns.blend_palette(ROLES[role], max(number, 3)).as_hex()
    return ends[1:2] if number == 1 else ends[:number]


def looks(styles: dict[str, Style] | Any, names: Sequence[str]) -> dict[str, Any]:
    """Arguments that make seaborn draw lines of optimizers in their styles, `style` and `size` being the optimizer."""
    return {
        "hue_order": list(names),
        "style_order": list(names),
        "size_order": list(names),
        "palette": {name: styles[name].color for name in names},
        "dashes": {name: styles[name].dashes for name in names},
        "sizes": {name: styles[name].linewidth for name in names},
    }
