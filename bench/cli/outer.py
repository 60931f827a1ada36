"""`bench outer-train`."""

import click

from bench.cli.options import device_option, devices_option, duration_sec, folder_options, json_option
from bench.cli.terminal import print_json, progress_bar
from bench.folders import Folders


@click.command("outer-train")
@click.argument("config")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one.")
@click.option("--resume-from", metavar="LABEL", help="Go on from the stage published under this label.")
@click.option("--budget", metavar="2h|30m|90s", help="Stop after this time with the best theta so far.")
@devices_option
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=1024),
    default=1,
    show_default=True,
    help="Processes of this machine that samples are spread over, each with as many devices.",
)
@json_option
@folder_options
@device_option
def outer_train_command(
    config: str,
    resume: bool,
    resume_from: str | None,
    budget: str | None,
    devices: int,
    processes: int,
    as_json: bool,
    folders: Folders,
    device: str | None,
) -> None:
    """Outer-train a learned optimizer; the best theta by outer-validation is on disk at any time.

    Checkpoints are written every minute: a run that was stopped or killed goes on with --resume to the same theta.
    `bench publish --outer CONFIG` packs the last whole stage into files that can be committed; --resume-from takes up
    such a run on another machine. Under `srun` the processes of a step make up one run.
    """
    budget_sec = duration_sec(budget, "--budget") if budget is not None else float("inf")
    from rich.console import Console

    from bench.outer.run import outer_train

    with progress_bar(1.0, f"outer-training {config}", Console(stderr=as_json)) as (log, advance):
        done = outer_train(
            config,
            resume=resume,
            resume_from=resume_from,
            budget_sec=budget_sec,
            num_devices=devices,
            num_processes=processes,
            device=device,
            folders=folders,
            log=log,
            advance=advance,
        )
    if not done.is_first:
        return
    if as_json:
        print_json({"weights": str(done.weights), **done.facts})
    else:
        click.echo(f"weights: {done.weights}\nuse: bench run -o {done.weights}, or learned.load({str(done.weights)!r})")
