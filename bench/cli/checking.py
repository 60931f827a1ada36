"""`bench doctor`, `prepare`, `verify`, `check` and `cards`: whether all is as it should be."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bench.cli.options import FiniteRange, device_option, devices_option, folder_options, json_option
from bench.cli.terminal import print_json, print_table, progress_bar
from bench.errors import EXIT_CHECK_FAILED, UsageError
from bench.folders import Folders

if TYPE_CHECKING:
    from bench.checks.contract import Verdict
    from bench.report.verify_all import Checked


@click.command()
@json_option
@folder_options
@device_option
def doctor(as_json: bool, folders: Folders, device: str | None) -> None:
    """Check versions, devices, data and folders, and say what to do about what is wrong."""
    from bench.checks.installation import examine_installation

    found = examine_installation(folders, device=device)
    rows = [dataclasses.asdict(finding) for finding in found]
    if as_json:
        print_json(rows)
    else:
        print_table(rows)
    if any(finding.status == "problem" for finding in found):
        sys.exit(EXIT_CHECK_FAILED)


@click.command()
@click.argument("names", nargs=-1, metavar="[DATA SET]...")
@click.option("--force", is_flag=True, help="Decode again even where a cached file exists.")
@folder_options
def prepare(names: Sequence[str], force: bool, folders: Folders) -> None:
    """Decode TFDS data once into cached array files, which also work where TFDS is not installed.

    For celo, celo_adam or sinv6, learned optimizers of others: say where their weights come from, and copy them into
    the cache from --weights-dir.
    """
    from rich.console import Console

    from bench.checks.data import prepare_data

    with progress_bar(1.0, "decoding", Console()) as (log, advance):
        prepare_data(names, force=force, folders=folders, log=log, advance=advance)


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

    Without a name every published report and page of claims, and the card of every shipped optimizer.

    With --outer, rerun the beginning of an outer-training run: every metric of its outer steps is the same to the last
    bit on the kind of device that the run was on, and to one in a thousand elsewhere.
    """
    if outer:
        if names:
            raise UsageError("expected either reports or --outer, got both")
        _verify_outer(outer, outer_steps, devices, folders, device)
        return
    from rich.console import Console

    from bench.report.verify_all import verify_reports

    with progress_bar(1.0, "bench verify", Console()) as (log, advance):

        def tell(checked: Checked) -> None:
            if checked.missing:
                absent = ", ".join(checked.missing)
                log(f"card of {checked.name}: not checked, {absent} is not in {folders.results_dir}")
            elif checked.kind == "card":
                log(f"card of {checked.name}: {checked.problem or 'follows from the weights and the rows'}")
            else:
                name = f"claims of {checked.name}" if checked.kind == "claims" else checked.name
                log(f"{name}: {checked.problem or 'every number follows from the rows'}")

        found = verify_reports(names, folders=folders, tell=tell, advance=advance)
    if any(checked.problem for checked in found):
        sys.exit(EXIT_CHECK_FAILED)


def _verify_outer(run: str, outer_steps: int, devices: int, folders: Folders, device: str | None) -> None:
    from rich.console import Console

    from bench.outer.rerun import rerun_outer
    from bench.score.compare import parse_set

    name, label = parse_set(run)
    with progress_bar(1.0, f"outer-training {name} again", Console()) as (_, advance):
        found = rerun_outer(
            name,
            label,
            outer_steps=outer_steps,
            num_devices=devices,
            device=device,
            folders=folders,
            advance=advance,
        )
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
    from bench.checks.plugin import check_plugin

    def tell(verdict: Verdict) -> None:
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
    from bench.report.cards import write_cards

    write_cards(names, folders=folders, log=click.echo)


@click.command("claims")
@click.option("--label", default=None, help="Of published results.  [default: the only one there is]")
@json_option
@folder_options
def claims_command(label: str | None, as_json: bool, folders: Folders) -> None:
    """Say of each claim of the paper whether published results show it, and write the page of claims."""
    from bench.report.claims.page import write_claims

    page = write_claims(label, folders=folders)
    found = json.loads(page.with_name("claims.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(found)
        return
    for claim in found:
        click.echo(f"{claim['name']} {claim['status']}: {claim['sentence']}")
    click.echo(f"page: {page}")
