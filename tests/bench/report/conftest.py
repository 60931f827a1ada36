"""Reports that several files read, made once."""

import shutil

import pytest

from bench.report import build, verify_report
from bench.report.page import write_page
from bench.store.published import publish
from bench.store.store import Store
from bench.tuning import targets
from tests.bench.conftest import draw_nothing
from tests.bench.noisy_rows import FAILURES, TITLE, chosen, make_frames
from tests.bench.report.published import NAME, made_cells
from tests.bench.synthetic import HORIZON, targets_record


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """Results and the report of a published suite."""
    root = tmp_path_factory.mktemp("published")
    results = root / "results"
    kept = Store(results, NAME[0])
    for record, curve in made_cells():
        kept.put(record, curve)
    for task in "ab":
        record = targets_record(task, {"adam": (2.0, 2.5, 2.75), "sgd": (2.5, 2.75, 2.9)}, "adam")
        targets.write(targets.target_path(results / "targets", task, HORIZON), record)
    publish(results, *NAME, kept.read())
    published = Store(results, *NAME).read()
    build.build_report(published, results, root.joinpath("reports", *NAME), *NAME, draw=False)
    shutil.rmtree(results / "made" / "local")  # git-ignored: nothing of it may be needed
    return root


@pytest.fixture
def root(original, tmp_path):
    """A copy to alter."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def page_made_once(original, monkeypatch):
    """The report of the unaltered rows, which is the same every time, is not made again for every altered page."""
    made = original.joinpath("reports", *NAME)
    monkeypatch.setattr(
        verify_report, "build_report", lambda *args, **kwargs: shutil.copytree(made, args[2], dirs_exist_ok=True)
    )


@pytest.fixture(scope="session")
def full(tmp_path_factory):
    """Three optimizers, one with a diverged run and one with an errored run, two tasks, five seeds; nothing drawn."""
    cells, curves = make_frames(chosen("adam", "muon", "lopt"), statuses=FAILURES)
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        path = write_page(cells, curves, out, description="What it is about.", **TITLE)
    return cells, curves, out, path.read_text(encoding="utf-8")
