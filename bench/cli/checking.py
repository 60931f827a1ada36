"""`bench doctor`, `prepare`, `verify`, `check` and `cards`: whether all is as it should be."""

import sys
from collections.abc import Sequence

import click

from bench.cli.options import FiniteRange, device_option, devices_option, folder_options, json_option
from bench.cli.terminal import print_json, print_table, progress_bar
from bench.errors import EXIT_CHECK_FAILED, UsageError, nearest
from bench.folders import Folders


@click.command()
@json_option
@folder_options
@device_option
def doctor(as_json: bool, folders: Folders, device: str | None) -> None:
    """Check versions, devices, data and folders, and say what to do about what is wrong."""
    from bench.checks.installation import examine
    from bench.device import select_device

    select_device(device)
    rows = examine(folders.results_dir, folders.reports_dir, folders.cache_dir, folders.data_dir)
    if as_json:
        print_json(rows)
    else:
        print_table(rows)
    if any(row["status"] == "problem" for row in rows):
        sys.exit(EXIT_CHECK_FAILED)


@click.command()
@click.argument("names", nargs=-1, metavar="[DATA SET]...")
@click.option("--force", is_flag=True, help="Decode again even where a cached file exists.")
@folder_options
def prepare(names: Sequence[str], force: bool, folders: Folders) -> None:
    """Decode TFDS data once into cached array files, which also work where TFDS is not installed."""
    from rich.console import Console

    from tasks import data

    for name in names or [name for name, row in data.DATA_SETS.items() if row.builder is not None]:
        if name not in data.DATA_SETS:
            raise nearest("data set", name, list(data.DATA_SETS))
        with progress_bar(1.0, f"decoding {name}", Console()) as (log, advance):
            seen = 0.0

            def progress(done: int, total: int, advance=advance) -> None:
                nonlocal seen
                advance(done / max(total, 1) - seen)
                seen = done / max(total, 1)

            path = data.prepare(
                name, data_dir=folders.data_dir, cache_dir=folders.cache_dir, force=force, progress=progress
            )
            log(f"{name}: {path}")


@click.command()
@click.argument("names", nargs=-1, metavar="[SUITE/LABEL]...")
@click.option(
    "--outer", metavar="CONFIG/LABEL", help="Take the first outer steps of a published run once more instead."
)
@click.option("--outer-steps", type=click.IntRange(min=1), default=100, show_default=True, help="With --outer.")
@devices_option
@folder_options
@device_option
def verify(
    names: Sequence[str], outer: str | None, outer_steps: int, devices: int, folders: Folders, device: str | None
) -> None:
    """Recompute every published number from committed rows and compare; names the first that differs.

    Without a name every published report, and the card of every shipped optimizer.

    With --outer, rerun the beginning of an outer-training run: every metric of its outer steps is the same to the last
    bit on the kind of device that the run was on, and to one in a thousand elsewhere.
    """
    from bench.score.compare import parse_set

    if outer:
        if names:
            raise UsageError("expected either reports or --outer, got both")
        from bench.device import use_devices

        use_devices(device, devices)
        _verify_outer(*parse_set(outer), outer_steps, devices, folders)
        return
    from bench.report import cards
    from bench.report.verify import published_reports
    from bench.report.verify import verify as verify_report
    from learned.weights import shipped_names

    reports = [parse_set(name) for name in names] or published_reports(folders.reports_dir)
    if not reports:
        raise UsageError(f"no published report in {folders.reports_dir}")
    for suite, label in reports:
        if not any((folder / suite / label).is_dir() for folder in (folders.results_dir, folders.reports_dir)):
            raise UsageError(f"no results and no report of {suite}/{label}: `bench list runs` shows what there is")
    failed = 0
    for suite, label in reports:
        problem = verify_report(folders.results_dir, folders.reports_dir, suite, label)
        click.echo(f"{suite}/{label}: {problem or 'every number follows from the rows'}")
        failed += problem is not None
    for name in () if names else shipped_names():
        if missing := cards.missing_results(name, folders.results_dir):
            click.echo(f"card of {name}: not checked, {', '.join(missing)} is not in {folders.results_dir}")
            continue
        problem = cards.verify(name, folders.results_dir)
        click.echo(f"card of {name}: {problem or 'follows from the weights and the rows'}")
        failed += problem is not None
    if failed:
        sys.exit(EXIT_CHECK_FAILED)


def _verify_outer(name: str, label: str, outer_steps: int, devices: int, folders: Folders) -> None:
    from rich.console import Console

    import tasks
    from bench.outer.folders import read_config, run_folder
    from bench.outer.rerun import rerun

    config = read_config(name)
    family = tasks.load_family(config.family, data_dir=folders.data_dir, cache_dir=folders.cache_dir)
    folder = run_folder(folders.results_dir, config, label)
    with progress_bar(outer_steps, f"outer-training {name} again", Console()) as (_, advance):
        found = rerun(config, family, folder, outer_steps=outer_steps, num_devices=devices, advance=advance)
    said = "the same to the last bit" if found.bit_equal else f"relative difference up to {found.difference:.2g}"
    if not found.bit_equal and found.loss_change is not None:
        said += f", outer-loss on average {found.loss_change:+.2g}"
    where = "the kind of device that the run was on" if found.same_device else "what may be another kind of device"
    click.echo(f"{name}/{label}: first {found.outer_steps} outer steps, on {where}: {said}")
    if not found.holds:
        sys.exit(EXIT_CHECK_FAILED)


@click.command()
@click.argument("plugin", type=click.Path(dir_okay=False))
@click.option("--time-limit", type=FiniteRange(min=1), default=120, show_default=True, help="Seconds of a check.")
@json_option
def check(plugin: str, time_limit: float, as_json: bool) -> None:
    """Check that the tasks and optimizers of a plug-in file keep the contracts that results rely on.

    Each is checked in a process of its own: one that hangs or crashes is a verdict like any other.
    """
    import dataclasses

    from bench.checks.plugin import check_plugin

    def tell(verdict) -> None:
        if not as_json:
            outcome = "ok    " if verdict.passed else "BROKEN"
            click.echo(f"{outcome}  {verdict.kind} {verdict.name}: {verdict.check}: {verdict.detail}")

    verdicts = check_plugin(plugin, time_limit, tell)
    broken = [verdict for verdict in verdicts if not verdict.passed]
    if as_json:
        print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    else:
        click.echo(f"{len(verdicts)} checks, {len(broken)} broken")
    if broken:
        sys.exit(EXIT_CHECK_FAILED)


@click.command("cards")
@click.argument("names", nargs=-1, metavar="[OPTIMIZER]...")
@folder_options
def cards_command(names: Sequence[str], folders: Folders) -> None:
    """Write the cards of shipped learned optimizers again: how they were made, and their published results."""
    from bench.report import cards
    from learned.weights import shipped_names

    for name in names or shipped_names():
        if name not in shipped_names():
            raise nearest("learned optimizer", name, shipped_names())
        click.echo(f"card: {cards.write(name, folders.results_dir)}")
