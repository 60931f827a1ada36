"""Cells are planned in random order, run one after the other whatever becomes of each, and interrupted."""

import functools
import io
import signal
import time
from dataclasses import dataclass

import optax
import pandas as pd
import pytest

from baselines import Baseline
from bench.cells.base import Cell, Outcome
from bench.cells.plan import plan
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.run.runner import run
from bench.store.record import Result, Status
from bench.store.rows import read_rows
from bench.store.store import Store
from bench.suites.suite import Suite
from tests.bench.least_squares import planned
from tests.helpers import linear_task


@dataclass(frozen=True)
class Config:
    """As much as the store's columns need."""

    task: str
    suite: str = "made"


class Acting(Cell):
    """A cell that does what it is told by the name of its task."""

    kind = "train"
    acts = {}

    @property
    def title(self):
        return self.config.task

    data_of = None

    def prepare(self, session):
        pass

    def execute(self, session, advance):
        advance(0.25)
        return self.acts[self.config.task]()


def raises(error):
    def act():
        raise error

    return act


RAISED_AT = raises(None).__code__.co_firstlineno + 1
CURVE = pd.DataFrame([(0, "train_loss", 1.0)], columns=["step", "metric", "value"])
ACTS = {
    "sound": lambda: Outcome(Status.OK, CURVE),
    "diverging": lambda: Outcome(Status.DIVERGED, CURVE, reason="loss not finite from step 1", first_bad_step=1),
    "raising": raises(RuntimeError("no such thing\nsecond line")),
    "leaving": raises(SystemExit(0)),
    "huge": raises(MemoryError()),
}


@pytest.fixture
def acting(monkeypatch):
    """A cell for each act."""
    monkeypatch.setattr(Acting, "acts", dict(ACTS))
    return [Acting(Config(name), ()) for name in ACTS]


def test_whatever_becomes_of_a_cell_is_a_row_and_the_others_go_on(acting, tmp_path):
    store, lines, shares = Store(tmp_path, "made"), [], []
    counts = run(acting, Registry(), store, log=lines.append, advance=shares.append)
    assert counts == {"ok": 1, "diverged": 1, "error": 2, "out_of_memory": 1}
    assert lines == [
        "[1/5] sound: ok",
        "[2/5] diverging: diverged (loss not finite from step 1)",
        f"[3/5] raising: error (RuntimeError: no such thing (test_runner.py, line {RAISED_AT}))",
        f"[4/5] leaving: error (SystemExit: 0 (test_runner.py, line {RAISED_AT}))",
        f"[5/5] huge: out_of_memory (MemoryError (test_runner.py, line {RAISED_AT}))",
    ]
    assert sum(shares) == len(acting)  # each is done in the end, however far it came
    record, curve = store.get(acting[1].name)
    assert (record.status, record.first_bad_step) == (Status.DIVERGED, 1)
    assert curve["value"].tolist() == [1.0]


def test_a_loss_that_is_not_finite_on_the_test_split_alone_has_its_line_and_the_others_go_on(acting, tmp_path):
    result, lines = Result(final_train_loss=1.0, final_test_loss=None), []
    Acting.acts["sound"] = lambda: Outcome(Status.OK, CURVE, result=result)
    assert run(acting[:2], Registry(), Store(tmp_path, "made"), log=lines.append) == {"ok": 1, "diverged": 1}
    assert lines[0] == "[1/2] sound: train 1.0000  test not finite"


def test_what_is_a_result_is_not_run_again_and_what_failed_is(acting, tmp_path):
    store = Store(tmp_path, "made")
    run(acting, Registry(), store)
    Acting.acts["raising"] = ACTS["sound"]
    for name in ("sound", "diverging"):
        Acting.acts[name] = raises(AssertionError("run again"))
    assert run(acting, Registry(), store) == {"stored": 2, "ok": 1, "error": 1, "out_of_memory": 1}


def test_what_is_the_users_to_mend_ends_the_run_with_what_is_finished_stored(acting, tmp_path):
    store = Store(tmp_path, "made")
    Acting.acts["diverging"] = raises(UsageError("no data"))
    with pytest.raises(UsageError, match="no data"):
        run(acting, Registry(), store)
    assert [store.is_complete(cell.name) for cell in acting] == [True, False, False, False, False]


def raising(h, horizon):
    def update(grads, state, params=None):
        raise RuntimeError("no such thing")

    return optax.GradientTransformation(optax.sgd(0.1).init, update)


def test_an_optimizer_that_cannot_take_a_step_leaves_the_clock_to_the_others(tmp_path, monkeypatch):
    rows = {name: Baseline(functools.partial(raising), {}, {}, "") for name in ("raising", "later")}
    registry = Registry(task_builders={"linear": linear_task}, baselines=rows)
    suite = Suite("made", ("adam", "raising", "later"), ("linear",), (0,), steps=4, timing_blocks=2, controls=False)
    monkeypatch.setattr("bench.training.step_times.MIN_REGION_SEC", 0.001)
    cells = plan(suite, registry)
    left = [cell for cell in cells if cell.row != ("linear", "later")]
    store, lines = Store(tmp_path, "made"), []
    assert run(left, registry, store, log=lines.append) == {"ok": 2, "error": 1}
    timing = store.get(cells[-1].name)[0]
    assert timing.status is Status.OK
    # One failed on all its seeds before the clock began, the other when it was compiled for it.
    reason = "without raising (no run has a result); later (RuntimeError: no such thing (test_runner.py, line "
    assert timing.reason.startswith(reason)
    assert lines[-1] == f"[3/3] linear timing: ok, {timing.reason}"
    found = store.read()
    assert list(read_rows(found.cells, found.curves).blocks["linear"].columns) == ["adam"]


@pytest.mark.rule(7)
def test_training_runs_are_in_random_order_within_each_seed_too():
    cells = planned(("adam", "sgd_momentum", "rmsprop", "muon"), range(10), controls=False)
    train = [(cell.config.seed, cell.config.optimizer) for cell in cells if cell.kind == "train"]
    blocks = [train[i : i + 4] for i in range(0, 40, 4)]
    assert [{seed for seed, _ in block} for block in blocks] == [{seed} for seed in range(10)]
    assert all(len({name for _, name in block}) == 4 for block in blocks)
    assert len({tuple(name for _, name in block) for block in blocks}) > 5


@pytest.mark.parametrize("steps_left", [0, 3])
def test_a_lost_interruption_is_raised_again(steps_left):
    """Python drops what a finalizer raises, and with it a Ctrl-C that comes meanwhile; nothing is printed of it."""
    from rich.console import Console

    from bench.cli.terminal import progress_bar

    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.01)

    done = 0

    def steps():
        nonlocal done
        with progress_bar(9, "nine steps", Console(file=io.StringIO())) as (_, advance):
            advance(1.0)
            thing = Finalized()
            del thing
            done = 1  # the exception was dropped: the loop goes on
            for _ in range(steps_left):
                advance(1.0)
                done += 1

    # Python's own, also where the tests were begun in the background, with Ctrl-C ignored.
    begin = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            steps()
        assert done == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, begin)


def test_what_is_stored_is_run_again_where_it_is_asked_for(acting, tmp_path):
    store = Store(tmp_path, "made")
    first = run(acting, Registry(), store)
    assert run(acting, Registry(), store, since="2000-01-01T00:00:00+00:00")["stored"] == 2
    assert run(acting, Registry(), store, since="9999-01-01T00:00:00+00:00") == first
