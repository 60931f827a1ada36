"""Cells are planned in random order, run one after the other whatever becomes of each, and interrupted."""

import io
import signal
import time
from dataclasses import dataclass

import pandas as pd
import pytest

from bench.cells.base import Cell, Outcome
from bench.entries.plugins import Registry
from bench.errors import UsageError
from bench.run.runner import run
from bench.store.record import Status
from bench.store.store import Store
from tests.bench.least_squares import planned


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
        "[3/5] raising: error (RuntimeError: no such thing)",
        "[4/5] leaving: error (SystemExit: 0)",
        "[5/5] huge: out_of_memory (MemoryError)",
    ]
    assert sum(shares) == len(acting)  # each is done in the end, however far it came
    record, curve = store.get(acting[1].name)
    assert (record.status, record.first_bad_step) == (Status.DIVERGED, 1)
    assert curve["value"].tolist() == [1.0]


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
