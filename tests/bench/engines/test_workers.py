"""Jobs on real workers: who dies, hangs or differs loses nothing, and who measures time is alone."""

import contextlib
import functools
import os
import time

import pytest

from bench.engines.cluster import Cluster, connected
from bench.engines.workers import Duty, Job, run_jobs
from bench.errors import UsageError
from tests.bench.engines.jobs import check, perform
from tests.helpers import assert_one_line

pytestmark = pytest.mark.slow  # processes


@pytest.fixture(scope="module")
def client():
    with connected(Cluster(workers=2)) as client:
        yield client


class Told:
    """What a run of jobs came to."""

    def __init__(self, folder, refuses=(), **facts):
        self.results, self.failures = {}, {}
        self.lines, self.progress, self.held = [], [], []
        self.folder, self.refuses = folder, refuses
        self.duty = Duty(
            functools.partial(check, **facts),
            functools.partial(perform, str(folder)),
            self.takes,
            self.ends,
            self.fails,
        )

    @contextlib.contextmanager
    def takes(self, job):
        self.held.append(job.name)
        yield job.name not in self.refuses
        self.held.remove(job.name)

    def ends(self, job, result):
        self.results[job.name] = result

    def fails(self, job, status, reason):
        self.failures[job.name] = (status, reason)

    def tries(self, name):
        return (self.folder / name).read_text().count("\n")


def has_ended(process, within_sec=20.0):
    deadline = time.monotonic() + within_sec
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def run(client, story, names, alone=(), **options):
    jobs = [Job(name, name, name in alone) for name in names]
    return run_jobs(client, jobs, story.duty, log=story.lines.append, **options)


def test_what_dies_is_done_again_twice_and_what_hangs_is_ended_and_the_others_are_done(client, tmp_path):
    told = Told(tmp_path, refuses=["fine-3"])
    names = ["dies", "fine-0", "once", "hangs", "fine-1", "fine-2", "fine-3"]
    left = run(client, told, names, limit_sec=5.0, told=told.progress.append)
    assert [job.name for job in left] == ["fine-3"]
    assert told.failures == {
        "dies": ("crashed", "its worker died, 3 times"),
        "hangs": ("time_limit", "its worker was ended after 5 s"),
    }
    assert set(told.results) == {"fine-0", "fine-1", "fine-2", "once"}
    assert {name: told.tries(name) for name in ("dies", "once", "hangs", "fine-0")} == {
        "dies": 3,
        "once": 2,
        "hangs": 1,
        "fine-0": 1,
    }
    assert told.lines.count("once: its worker died, it is done again") == 1
    assert told.held == []
    assert has_ended(int((tmp_path / "hangs").read_text()))
    assert any(line.startswith("2 workers, 2 running") for line in told.progress)


def test_what_measures_time_has_the_device_to_itself(client, tmp_path):
    told = Told(tmp_path)
    alone = ["fine-0", "fine-1"]
    run(client, told, [f"fine-{i}" for i in range(8)], alone)
    assert len(told.results) == 8
    for name, (begin, end) in told.results.items():
        for other, (other_begin, other_end) in told.results.items():
            assert name == other or name not in alone or end <= other_begin or other_end <= begin


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"problem": "mnist not found"}, "mnist not found"),
        ({"difference": "its jax is 0.1, here 0.2"}, "its jax is 0.1, here 0.2; --unlike mark takes it"),
    ],
)
def test_workers_that_cannot_do_the_work_or_differ_are_refused_in_one_line(client, tmp_path, facts, words):
    with pytest.raises(UsageError, match="no worker can do the work: worker tcp://127") as caught:
        run(client, Told(tmp_path, **facts), ["fine"])
    assert str(caught.value).endswith(words)
    assert_one_line(caught.value)
    assert not list(tmp_path.iterdir())


def test_workers_that_differ_are_marked_where_the_user_says_so(client, tmp_path):
    told = Told(tmp_path, difference="its jax is 0.1, here 0.2")
    run(client, told, ["fine"], marks=True)
    assert set(told.results) == {"fine"}
    assert any("is marked: its jax is 0.1, here 0.2" in line for line in told.lines)


def test_what_a_job_says_about_input_is_said_as_it_is(client, tmp_path):
    told = Told(tmp_path)
    with pytest.raises(UsageError, match=r"^there is no such data$"):
        run(client, told, ["refuses"])
    assert told.held == []
