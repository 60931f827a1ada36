"""Where a setting comes from: flag > environment > bench.toml > default."""

from pathlib import Path

import pytest

from bench.cli import main as cli
from bench.folders import Folders

SETTINGS = {  # key of bench.toml -> its flag and variable
    "results_dir": ("--results-dir", "BENCH_RESULTS_DIR"),
    "reports_dir": ("--reports-dir", "BENCH_REPORTS_DIR"),
    "cache_dir": ("--cache-dir", "BENCH_CACHE_DIR"),
    "data_dir": ("--data-dir", "TFDS_DATA_DIR"),
    "weights_dir": ("--weights-dir", "BENCH_WEIGHTS_DIR"),
    "device": ("--device", "BENCH_DEVICE"),
}


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """Runs `bench doctor` in an empty folder and environment: the settings that it takes."""
    monkeypatch.chdir(tmp_path)
    for _, variable in SETTINGS.values():
        monkeypatch.delenv(variable, raising=False)
    seen = {}

    def examine(folders, device):
        seen.update(vars(folders), device=device)
        return []

    monkeypatch.setattr("bench.checks.installation.examine_installation", examine)

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            cli.main(["doctor", "--json", *arguments])
        assert not done.value.code
        return {key: None if value is None else str(value) for key, value in seen.items()}

    return run


@pytest.mark.parametrize("key", SETTINGS)
def test_a_flag_stands_before_the_environment_the_file_and_the_default(taken, monkeypatch, key):
    flag, variable = SETTINGS[key]
    default = taken()[key]
    assert default == (None if key == "device" else str(getattr(Folders(), key)))
    Path("bench.toml").write_text(f'{key} = "of_file"\n')
    assert taken()[key] == "of_file"
    monkeypatch.setenv(variable, "of_environment")
    assert taken()[key] == "of_environment"
    assert taken(flag, "of_flag")[key] == "of_flag"
    monkeypatch.setenv(variable, "")  # as good as unset
    assert taken()[key] == "of_file"
    Path("bench.toml").write_text(f'{key} = ""\n')
    assert taken()[key] == default


def test_weights_of_others_are_in_the_cache_where_no_folder_is_said(taken):
    assert taken("--cache-dir", "elsewhere")["weights_dir"] == str(Path("elsewhere") / "weights")


def test_one_setting_leaves_the_others_alone(taken):
    before = taken()
    Path("bench.toml").write_text('reports_dir = "pages"\n')
    assert taken() == before | {"reports_dir": "pages"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('result_dir = "x"', "unknown key of bench.toml 'result_dir'; did you mean results_dir"),
        ("results_dir = 3", "bench.toml: expected results_dir to be text, got 3"),
        ("results_dir", "bench.toml is not TOML"),
        ("[run]\nsteps = 3", "unknown key of bench.toml 'run'"),
    ],
)
def test_a_file_that_is_none_is_one_line_of_whoever_needs_it(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.chdir(tmp_path)
    Path("bench.toml").write_text(content)

    def run(*arguments):
        with pytest.raises(SystemExit) as done:
            cli.main(list(arguments))
        return done.value.code or 0, capsys.readouterr().err

    code, err = run("list", "suites")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"bench: {words}")
    assert run("list", "--help") == (0, "")
    assert run("info", "quick") == (0, "")  # has no folder


def test_a_device_of_the_file_is_that_of_cells_in_processes_too(tmp_path, monkeypatch):
    from bench.run import isolate

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DEVICE", raising=False)
    Path("bench.toml").write_text('device = "cpu"\n')
    works = []

    def work_of(*arguments):
        works.append(dict(zip(("suite", "plugins", "folders", "device"), arguments[:4], strict=True)))
        raise KeyboardInterrupt

    monkeypatch.setattr(isolate.Work, "of", work_of)
    with pytest.raises(SystemExit):
        cli.main(["run", "quick", "--isolate", "--dry-run"])
    assert works[0]["device"] == "cpu"


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "device"])
def test_a_tilde_is_the_home_wherever_a_folder_is_said(taken, tmp_path, monkeypatch, key):
    flag, variable = SETTINGS[key]
    monkeypatch.setenv("HOME", str(tmp_path / "my home #1"))
    expected = str(tmp_path / "my home #1" / "there")
    assert taken(flag, "~/there")[key] == expected
    Path("bench.toml").write_text(f'{key} = "~/there"\n')
    assert taken()[key] == expected
    monkeypatch.setenv(variable, "~/there")
    assert taken()[key] == expected


def test_a_file_of_settings_may_have_the_mark_of_utf8_and_any_letters(taken, monkeypatch):
    monkeypatch.setattr("locale.getencoding", lambda: "ISO-8859-1")
    Path("bench.toml").write_text('results_dir = "Ergebnisse für später"\n', encoding="utf-8-sig")
    assert taken()["results_dir"] == "Ergebnisse für später"


def test_a_folder_of_another_machine_is_refused(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["doctor", "--data-dir", "gs://bucket/tfds"])
    assert done.value.code == 2
    assert capsys.readouterr().err == ("bench: --data-dir expects a folder of this machine, got 'gs://bucket/tfds'\n")
