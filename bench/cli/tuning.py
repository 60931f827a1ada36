"""`bench tune` and `bench freeze`: what is settled before anything is compared."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.cli.options import (
    STEPS,
    device_option,
    engine_options,
    folder_options,
    json_option,
    plugin_option,
    subset_options,
)
from bench.cli.terminal import print_json, progress_bar
from bench.errors import EXIT_FAILED_CELLS
from bench.folders import Folders
from bench.suites.choose import choose_suite


@click.command()
@click.argument("family")
@click.option("-o", "--optimizer", "optimizers", multiple=True, metavar="OPTIMIZER", help="Only these; all without it.")
@click.option("--steps", type=STEPS, metavar="N", help="Horizon; the family's own without it.")
@click.option(
    "--output", type=click.Path(file_okay=False), help="Folder of tuned values.  [default: RESULTS_DIR/tuned]"
)
@engine_options
@json_option
@plugin_option
@folder_options
@device_option
def tune(
    family: str,
    optimizers: Sequence[str],
    steps: int | None,
    output: str | None,
    as_json: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
    **engine: Any,
) -> None:
    """Tune hand-designed optimizers on a task family: 32 or 64 Halton trials each, by validation loss.

    A search that is stopped or killed goes on where it was.
    """
    from rich.console import Console

    from bench.tuning.family import tune_family

    with progress_bar(1.0, f"tuning on {family}", Console(stderr=as_json)) as (log, advance):
        found = tune_family(
            family,
            optimizers,
            steps=steps,
            output_dir=Path(output) if output else None,
            folders=folders,
            plugins=plugins,
            device=device,
            log=log,
            advance=advance,
            told=lambda line: advance(0.0, line),
            **engine,
        )
    if as_json:
        print_json(
            [
                {
                    "optimizer": tuned.optimizer,
                    "hyperparameters": {key: float(f"{value:.4g}") for key, value in tuned.hyperparameters.items()},
                    "interior": tuned.interior,
                    "path": None if tuned.failure else str(tuned.path),
                    **({"failure": tuned.failure} if tuned.failure else {}),
                }
                for tuned in found
            ]
        )
    if any(tuned.failure for tuned in found):
        sys.exit(EXIT_FAILED_CELLS)


@click.command()
@click.argument("suite", default="quick")
@subset_options
@click.option("--output", type=click.Path(file_okay=False), help="Folder of targets.  [default: RESULTS_DIR/targets]")
@click.option("--extend", is_flag=True, help="Add optimizers that frozen targets lack; what is frozen stays as it is.")
@engine_options
@plugin_option
@folder_options
@device_option
def freeze(
    suite: str,
    tasks_: Sequence[str],
    optimizers: Sequence[str],
    seeds: str | None,
    steps: int | None,
    settings: Sequence[str],
    output: str | None,
    extend: bool,
    plugins: Sequence[str],
    folders: Folders,
    device: str | None,
    **engine: Any,
) -> None:
    """Freeze the targets of a suite's tasks: what the tuned hand-designed optimizers reach on tuning seeds."""
    from rich.console import Console

    from bench.tuning.freeze import freeze_suite

    chosen = choose_suite(suite, tasks_, optimizers, seeds, steps, settings)
    with progress_bar(1.0, f"freezing targets of {chosen.name}", Console()) as (log, advance):
        freeze_suite(
            chosen,
            extend=extend,
            output_dir=Path(output) if output else None,
            folders=folders,
            plugins=plugins,
            device=device,
            log=log,
            advance=advance,
            told=lambda line: advance(0.0, line),
            **engine,
        )
