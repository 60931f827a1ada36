"""The benchmark: command line, suites, tuning, timing, store, statistics, report.

The functions behind the commands can be called from notebooks and scripts: each takes names or configurations and
folders, prints nothing, and returns its results. They are imported on first use.

    >>> import bench
    >>> suite = bench.choose_suite("quick", ["digits8_mlp"], ["adam", "learned"], seeds="0-1")
    >>> done = bench.run_suite(suite, log=print)  # doctest: +SKIP
    >>> page = bench.write_report("quick", results=done.results)  # doctest: +SKIP
"""

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for the one of `typing`, whose import takes longer than all of this
if TYPE_CHECKING:
    from bench.checks.data import prepare_data as prepare_data
    from bench.checks.installation import examine_installation as examine_installation
    from bench.checks.plugin import check_plugin as check_plugin
    from bench.engines.cluster import Cluster as Cluster
    from bench.entries.listing import list_optimizers as list_optimizers
    from bench.entries.listing import list_tasks as list_tasks
    from bench.errors import UsageError as UsageError
    from bench.folders import Folders as Folders
    from bench.outer.cost import time_outer as time_outer
    from bench.outer.publish import publish_outer as publish_outer
    from bench.outer.publish import ship as ship
    from bench.outer.rerun import rerun_outer as rerun_outer
    from bench.outer.run import outer_train as outer_train
    from bench.report.cards import write_cards as write_cards
    from bench.report.claims.page import write_claims as write_claims
    from bench.report.site import write_site as write_site
    from bench.report.stored import last_report as last_report
    from bench.report.stored import read_results as read_results
    from bench.report.stored import report_json as report_json
    from bench.report.stored import write_report as write_report
    from bench.report.verify_all import verify_reports as verify_reports
    from bench.run.suite import plan_suite as plan_suite
    from bench.run.suite import publish_suite as publish_suite
    from bench.run.suite import run_suite as run_suite
    from bench.run.time_and_race import race as race
    from bench.run.time_and_race import time_steps as time_steps
    from bench.score.compare import compare_results as compare_results
    from bench.suites.choose import choose_suite as choose_suite
    from bench.suites.listing import describe as describe
    from bench.suites.listing import list_runs as list_runs
    from bench.suites.listing import list_suites as list_suites
    from bench.suites.suite import load_suite as load_suite
    from bench.tuning.family import tune_family as tune_family
    from bench.tuning.freeze import freeze_suite as freeze_suite

MODULES = {  # public name -> its module
    "Cluster": "bench.engines.cluster",
    "Folders": "bench.folders",
    "UsageError": "bench.errors",
    "check_plugin": "bench.checks.plugin",
    "choose_suite": "bench.suites.choose",
    "compare_results": "bench.score.compare",
    "describe": "bench.suites.listing",
    "examine_installation": "bench.checks.installation",
    "freeze_suite": "bench.tuning.freeze",
    "last_report": "bench.report.stored",
    "list_optimizers": "bench.entries.listing",
    "list_runs": "bench.suites.listing",
    "list_suites": "bench.suites.listing",
    "list_tasks": "bench.entries.listing",
    "load_suite": "bench.suites.suite",
    "outer_train": "bench.outer.run",
    "plan_suite": "bench.run.suite",
    "prepare_data": "bench.checks.data",
    "publish_outer": "bench.outer.publish",
    "publish_suite": "bench.run.suite",
    "race": "bench.run.time_and_race",
    "read_results": "bench.report.stored",
    "report_json": "bench.report.stored",
    "rerun_outer": "bench.outer.rerun",
    "run_suite": "bench.run.suite",
    "ship": "bench.outer.publish",
    "time_outer": "bench.outer.cost",
    "time_steps": "bench.run.time_and_race",
    "tune_family": "bench.tuning.family",
    "verify_reports": "bench.report.verify_all",
    "write_cards": "bench.report.cards",
    "write_claims": "bench.report.claims.page",
    "write_report": "bench.report.stored",
    "write_site": "bench.report.site",
}
__all__ = list(MODULES)  # pyright: ignore[reportUnsupportedDunderAll] (it has the imports above)

if not TYPE_CHECKING:  # else any name would seem to be there

    def __getattr__(name: str) -> object:
        """Imports a public name on first use (PEP 562)."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
