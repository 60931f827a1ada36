"""The pages that a browser opens: a made-up report and every committed one."""

import shutil
from pathlib import Path
from typing import NamedTuple

from bench.report.page import write_page
from bench.report.verify_report import published_reports
from bench.tuning.targets import GROUPS, Targets
from tests.bench.noisy_rows import OPTIMIZERS, make_frames
from tests.helpers import REPOSITORY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    *("--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
]
SIZES = {"wide": (1400, 1000), "narrow": (400, 860)}


REPORTS_DIR = REPOSITORY / "reports"
COMMITTED = {
    f"{suite}-{label}": REPORTS_DIR / suite / label / "report.html"
    for suite, label in published_reports(REPORTS_DIR)
    if (REPORTS_DIR / suite / label / "report.html").exists()
}
HOSTILE = "<script>alert(1)</script> & \"'"
LONG = "a_learned_optimizer_whose_name_takes_sixty_characters_in_all"
ROWS = {
    **{name: OPTIMIZERS[name] for name in ("adam", "muon", "lopt")},
    HOSTILE: OPTIMIZERS["sgdm"],
    LONG: OPTIMIZERS["lopt"],
    "adam_again": ("control", 0.30, 6.0, 1.0e-3),
    "adam_twice": ("control", 0.30, 6.0, 2.0e-3),
    "adam_frozen": ("control", 2.30, 0.0, 1.0e-3),
    "adam_10x": ("control", 0.90, 2.0, 1.0e-3),
}
STATUSES = {
    ("digits_mlp", "adam", 3): "diverged",
    ("digits_conv", LONG, 0): "error",
    ("digits_conv", HOSTILE, 1): "error",
}
LEVELS = {"hard": 0.35, "medium": 0.5, "easy": 1.0}  # losses; those of the made-up curves fall from 2.3 to about 0.3


def write_made_up_report(folder):
    """Two tasks, failures, controls, targets, and names that would break a careless page."""
    tasks = ("digits_mlp", "digits_conv")
    cells, curves = make_frames(ROWS, tasks, statuses=STATUSES, num_points=11, curve_metrics=("validation_loss",))
    levels = {name: {"train_loss": LEVELS, "validation_loss": LEVELS} for name in ("adam", "muon", HOSTILE)}
    targets = {
        task: Targets(task, 500, levels, dict.fromkeys(GROUPS, "adam"), made_at="", digest="", identities={})
        for task in tasks
    }
    about = "Made-up numbers, to look at the page."
    named = {"title": "A report", "suite": "quick", "label": "local", "description": about}
    return write_page(cells, curves, folder, targets=targets, headline="lopt", **named)


class Opened(NamedTuple):
    page: object
    path: Path
    size: str
    problems: list[str]  # errors and warnings of the console, errors of the page, dialogs, requests that failed
    requests: list[str]

    @property
    def folder(self):
        return self.path.parent

    def find(self, script):
        return self.page.evaluate(HELPERS + script + "\n}")


# What the scripts below share: how an element is named in a message, and what a reader can see.
HELPERS = r"""() => {
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const text = e => e.textContent.replace(/\s+/g, " ").trim();
const name = e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : e.className ? "." + e.className : "")
    + ` in ${e.closest("[id]")?.id ?? "the page"}: ${text(e).slice(0, 60)}`;
const style = e => getComputedStyle(e);
const visible = e => {
    const {width, height} = e.getBoundingClientRect();
    return width > 1 && height > 1 && e.checkVisibility({visibilityProperty: true, opacityProperty: true});
};
const ownText = e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
const isBox = e => !["inline", "contents", "none"].includes(style(e).display) && visible(e);
all("*").forEach(e => e.scrollTo({top: 0, left: 0, behavior: "instant"}));
"""
