"""Every command is a function that a notebook can call: the command line parses and prints, and does nothing itself."""

import ast
from pathlib import Path

import pytest

import bench
from bench.cli import main as cli

FUNCTIONS = {  # of each command
    "cards": ["write_cards"],
    "check": ["check_plugin"],
    "claims": ["write_claims"],
    "compare": ["compare_results"],
    "doctor": ["examine_installation"],
    "freeze": ["choose_suite", "freeze_suite"],
    "info": ["describe"],
    "list": ["list_optimizers", "list_runs", "list_suites", "list_tasks"],
    "open": ["last_report"],
    "outer-train": ["outer_train"],
    "prepare": ["prepare_data"],
    "publish": ["choose_suite", "publish_outer", "publish_suite", "ship", "write_report"],
    "report": ["read_results", "report_json", "write_report"],
    "run": ["choose_suite", "plan_suite", "run_suite", "write_report"],
    "site": ["write_site"],
    "time": ["race", "time_outer", "time_steps"],
    "tune": ["tune_family"],
    "verify": ["rerun_outer", "verify_reports"],
}
# What commands use beside them: limits and choices of options, and how values that a function has returned read.
ALSO = {
    "Checked",
    "Cluster",
    "FIGURE_FORMATS",
    "MOST",
    "Results",
    "SuitePlan",
    "Race",
    "StepTime",
    "SuiteRun",
    "TABLE_FORMATS",
    "Verdict",
    "closing_lines",
    "device",
    "dropped_in_silence",
    "forecast",
    "parse_set",
    "plural",
    "printed",
    "read_cluster_file",
    "shown",
    "targets_of",
    "terminal_tables",
}
FILES = sorted(Path(cli.__file__).parent.glob("*.py"))


def test_every_command_is_a_function_of_the_package():
    assert set(FUNCTIONS) == set(cli.cli.commands)
    for names in FUNCTIONS.values():
        for name in names:
            assert name in bench.__all__
            assert callable(getattr(bench, name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_commands_takes_nothing_else_from_the_rooms_below(path):
    of_commands = {name for names in FUNCTIONS.values() for name in names}
    for node in ast.walk(ast.parse(path.read_text())):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("bench")]
        if module.startswith("bench.") and not module.startswith(("bench.cli", "bench.errors", "bench.folders")):
            assert {alias.name for alias in node.names} <= of_commands | ALSO
