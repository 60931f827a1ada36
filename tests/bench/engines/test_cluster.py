"""Clusters: what a cluster file may say, and the script that a queue gets; no queue is needed."""

import subprocess
import sys

import pytest

from bench.engines.cluster import QUEUES, Cluster, connected, read_cluster_file
from bench.errors import UsageError
from tests.helpers import assert_one_line

SOUND = (
    'queue_system = "{}"\njobs = 3\ncores = 4\nprocesses = 2\nmemory = "8GB"\nwalltime = "01:30:00"\nqueue = "long"\n'
)
DIRECTIVES = {  # of each queue: walltime and the name of the partition, as its manual writes them
    "slurm": ("#SBATCH -t 01:30:00", "#SBATCH -p long"),
    "pbs": ("#PBS -l walltime=01:30:00", "#PBS -q long"),
    "lsf": ("#BSUB -W 01:30", "#BSUB -q long"),
    "sge": ("#$ -l h_rt=01:30:00", "#$ -q long"),
}


@pytest.mark.parametrize("system", QUEUES)
def test_a_cluster_file_is_the_script_of_a_job(tmp_path, system):
    walltime = "01:30" if system == "lsf" else "01:30:00"
    path = tmp_path / "cluster.toml"
    path.write_text(SOUND.format(system).replace("01:30:00", walltime))
    spec = read_cluster_file(str(path))
    assert spec.jobs == 3
    script = spec.script()
    for directive in DIRECTIVES[system]:
        assert directive in script.splitlines()
    assert "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False" in script
    assert "distributed.cli.dask_worker" in script
    assert "--nworkers 2" in script


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('queue_system = "slurn"', "unknown queue_system of .*; did you mean slurm"),
        ('queue_system = "pbs"\nwaltime = "1"', "unknown key of .* 'waltime'; did you mean walltime"),
        ('queue_system = "pbs"\njob_cpu = 2', "unknown key of .* 'job_cpu'"),
        ('queue_system = "pbs"\ncores = "2"', "expected cores to be a whole number from 1, got '2'"),
        ('queue_system = "pbs"\ncores = true', "expected cores to be a whole number from 1, got True"),
        ('queue_system = "pbs"\njobs = 0', "expected jobs to be a whole number from 1, got 0"),
        (
            'queue_system = "pbs"\ncores = 2\nworker_extra_args = [1]',
            "expected worker_extra_args to be a list of texts",
        ),
        ('queue_system = "pbs"\ncores = 2', "expected a key 'memory'"),
        ("queue_system", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_cluster_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_cluster_file(str(path))
    assert_one_line(caught.value)


def test_a_queue_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "cluster.toml"
    path.write_text(SOUND.format("slurm"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UsageError, match="its command 'sbatch' is not found") as caught,
        connected(Cluster(file=str(path))),
    ):
        pass
    assert_one_line(caught.value)


def test_without_an_engine_nothing_of_dask_is_imported():
    program = (
        "import sys, bench.run.suite, bench.tuning.freeze\nsys.exit(bool({'dask', 'distributed'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0


def test_a_scheduler_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr("bench.engines.cluster.CONNECT_SEC", 0.5)
    nowhere = Cluster("tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match="no Dask scheduler at tcp://127") as caught, connected(nowhere):
        pass
    assert_one_line(caught.value)


def test_a_cluster_is_at_one_place():
    with pytest.raises(UsageError, match="expected one of --scheduler, --cluster and --workers"):
        Cluster("tcp://127.0.0.1:1", workers=2)
