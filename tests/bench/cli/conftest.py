"""Folders of a user, and `bench` in this process."""

import pytest

from bench.cli import main as cli


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    return {
        "BENCH_RESULTS_DIR": str(root / "results"),
        "BENCH_REPORTS_DIR": str(root / "reports"),
        "BENCH_CACHE_DIR": str(root / "cache"),
        "TFDS_DATA_DIR": str(root / "tfds"),
    }


@pytest.fixture
def bench(folders, monkeypatch, capsys):
    """Runs `bench ...` in this process: (exit code, standard output, standard error)."""
    for name, value in folders.items():
        monkeypatch.setenv(name, value)

    def run(*args):
        with pytest.raises(SystemExit) as done:
            cli.main(list(args))
        captured = capsys.readouterr()
        return done.value.code or 0, captured.out, captured.err

    return run
