"""`bench run` and what follows a run, as a user meets them: one real process, and the others in this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

RUN = ["run", "quick", "-t", "digits8_mlp", "-o", "sgd_momentum", "--seeds", "0-1", "--steps", "20"]
SETTINGS = ["--set", "timing_blocks=0"]  # a clock would compile each optimizer once more


@pytest.fixture(scope="module")
def finished(folders):
    """A small suite run once, as a real process, with the output kept."""
    command = [sys.executable, "-m", "bench", *RUN, *SETTINGS]
    return subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_run_says_what_it_will_do_and_ends_with_five_lines_and_the_path_of_the_report(finished, folders):
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.strip().splitlines()
    assert lines[0] == "quick: 6 cells to run (1 task, 2 seeds)"
    assert lines[1].startswith("time: not known")  # nothing is published in these folders
    assert str(Path(folders["BENCH_RESULTS_DIR"]) / "quick" / "local") in lines[2]
    assert [line.split(" ")[0] for line in lines[3:9]] == [f"[{number}/6]" for number in range(1, 7)]
    assert len(lines) == 3 + 6 + 5 + 1
    heads = [line.split(":")[0] for line in lines[9:]]
    assert heads == ["verdict", "final test loss", "cost of a step", "controls", "cells", "report"]
    assert lines[10].startswith("final test loss: lowest hand-designed sgd_momentum ")
    assert lines[-2].startswith("cells: 6 ok (`bench open`")
    assert lines[-1] == f"report: {Path(folders['BENCH_REPORTS_DIR']) / 'quick' / 'local' / 'report.html'}"
    assert "\x1b" not in finished.stdout


@pytest.mark.slow
def test_a_quiet_run_prints_the_path_alone_and_a_rerun_says_what_is_stored(finished, folders, bench, undrawn):
    page = Path(folders["BENCH_REPORTS_DIR"]) / "quick" / "local" / "report.html"
    assert bench(*RUN, *SETTINGS, "--quiet") == (0, f"{page}\n", "")
    lines = bench(*RUN, *SETTINGS)[1].splitlines()
    assert lines[0] == "quick: 0 cells to run, 6 stored before (1 task, 2 seeds)"
    assert lines[1] == "time: nothing is left to run but the report"
    assert any("sgd_momentum" in line and "│" in line for line in bench("report", "quick")[1].splitlines())


@pytest.mark.slow
def test_a_rerun_skips_what_is_stored_and_redoes_what_is_damaged(finished, folders, bench, undrawn):
    code, out, _ = bench(*RUN, *SETTINGS, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"stored": 6})
    dry = json.loads(bench(*RUN, *SETTINGS, "--dry-run", "--json")[1])
    victim = next(row["cell"] for row in dry if "sgd_momentum seed 0" in row["title"])
    path = Path(folders["BENCH_RESULTS_DIR"]) / "quick" / "local" / f"{victim}.json"
    before = json.loads(path.read_text())["result"]
    path.write_text(path.read_text().replace("0.", "1.", 1))
    code, out, err = bench(*RUN, *SETTINGS, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"stored": 5, "ok": 1})
    assert "damaged file set aside" in err
    assert json.loads(path.read_text())["result"] == before  # the same numbers, to the last digit


@pytest.mark.slow
def test_a_diverged_run_is_a_result_and_exits_zero(bench, undrawn):
    args = [*RUN[:-4], "--seeds", "0", "--steps", "20", "--set", "timing_blocks=0"]
    code, out, _ = bench(*args, "--set", "sgd_momentum.learning_rate=1e30", "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"diverged": 2, "ok": 1})  # the control at rate 0 is well


def test_a_raising_optimizer_is_a_row_and_the_others_go_on(bench, tmp_path, undrawn):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import optax\nfrom baselines import Baseline\n"
        "def broken(h, horizon):\n    raise RuntimeError('no such thing\\nsecond line')\n"
        "OPTIMIZERS = {'broken': Baseline(make=broken, space={}, default={}, reference='none')}\n"
    )
    args = ["run", "-t", "digits8_mlp", "-o", "broken", "-o", "sgd_momentum", "--seeds", "9", "--steps", "20"]
    code, out, _ = bench(*args, *SETTINGS, "--plugin", str(plugin), "--no-isolate", "--json")
    assert code == 3
    assert json.loads(out)["cells"] == {"ok": 3, "error": 1}
    assert "no such thing" in Path(json.loads(out)["report"]).read_text()


def test_time_limit_exits_three(bench, undrawn):
    args = [*RUN[:-4], "--seeds", "7", "--steps", "20", "--set", "timing_blocks=0"]
    code, out, _ = bench(*args, "--cell-limit", "1e-6", "--json")
    assert (code, json.loads(out)["cells"]) == (3, {"time_limit": 3})


@pytest.mark.slow
def test_a_clock_is_added_to_what_is_stored_and_publish_packs_and_reports(finished, folders, bench, undrawn):
    timed = [*RUN, "--set", "timing_blocks=6"]
    code, out, _ = bench(*timed, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"stored": 6, "ok": 1})
    code, _, err = bench("publish", "quick", "--label", "test-machine")
    assert (code, "cells of quick are not stored" in err) == (2, True)
    code, _, err = bench("publish", *timed[1:], "--label", "test-machine")
    assert code == 0, err
    cells = pd.read_parquet(Path(folders["BENCH_RESULTS_DIR"]) / "quick" / "test-machine" / "cells.parquet")
    assert set(cells["kind"]) == {"train", "time"}
    assert set(cells["optimizer"].dropna()) == {"sgd_momentum", "sgd_momentum_frozen", "sgd_momentum_10x"}
    assert json.loads(cells["provenance"][0])["data"]["digest"]
    page = Path(folders["BENCH_REPORTS_DIR"]) / "quick" / "test-machine" / "report.html"
    assert page.exists()
    assert {path.suffix for path in page.parent.rglob("*") if path.is_file()} == {".html", ".json", ".csv"}
    formats = ("--figures", "svg,pdf", "--tables", "md,tex")
    assert bench("report", "quick", "--label", "test-machine", *formats)[0] == 0
    assert {path.suffix for path in (page.parent / "figures").iterdir()} == {".svg", ".pdf"}
    assert {path.suffix for path in (page.parent / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert bench("report", "quick", "--label", "test-machine", "--json")[0] == 0
    assert "test-machine" in bench("list", "runs")[1]


def test_an_unknown_format_is_answered_by_the_known_ones(bench):
    code, _, err = bench("report", "quick", "--figures", "png,jpeg")
    assert code == 2
    assert "unknown format 'jpeg'; known: png, svg, pdf" in err
    assert "known: csv, md, tex" in bench("report", "quick", "--tables", "html")[2]


def test_missing_data_names_the_data_set_the_place_and_the_command(bench, folders):
    args = ["run", "paper", "-t", "imagenet32_cnn3/0", "-o", "adam", "--seeds", "0"]
    code, _, err = bench(*args)
    assert code == 2
    assert "imagenet_resized/32x32" in err
    assert folders["TFDS_DATA_DIR"] in err
    assert "tfds build" in err
    assert err.count("\n") == 1


def test_an_unwritable_folder_is_one_line(bench, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench(*RUN, *SETTINGS, "--results-dir", str(tmp_path / "file"))
    assert code == 2
    assert err.startswith("bench: cannot write")
    assert err.count("\n") == 1
