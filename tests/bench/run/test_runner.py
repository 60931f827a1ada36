"""Cells are planned in random order, run, and interrupted."""

import io
import signal
import time

import pytest

from tests.bench.least_squares import planned


@pytest.mark.rule(7)
def test_training_runs_are_in_random_order_within_each_seed_too():
    cells = [cell.config for cell in planned(("adam", "sgd_momentum", "rmsprop", "muon"), range(10), controls=False)]
    train = [(config["seed"], config["optimizer"]) for config in cells if config["kind"] == "train"]
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
