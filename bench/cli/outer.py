"""`bench outer-train`."""

import click

from bench.cli.options import device_option, devices_option, folder_options, json_option
from bench.cli.terminal import print_json, progress_bar
from bench.errors import UsageError
from bench.folders import Folders


@click.command("outer-train")
@click.argument("config")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one.")
@click.option("--resume-from", metavar="LABEL", help="Go on from the stage published under this label.")
@click.option("--budget", metavar="2h|30m|90s", help="Stop after this time with the best theta so far.")
@devices_option
@json_option
@folder_options
@device_option
def outer_train_command(
    config: str,
    resume: bool,
    resume_from: str | None,
    budget: str | None,
    devices: int,
    as_json: bool,
    folders: Folders,
    device: str | None,
) -> None:
    """Outer-train a learned optimizer; the best theta by outer-validation is on disk at any time.

    Checkpoints are written every minute: a run that was stopped or killed goes on with --resume to the same theta.
    `bench publish --outer CONFIG` packs the last whole stage into files that can be committed; --resume-from takes up
    such a run on another machine.
    """
    from bench.device import use_devices

    use_devices(device, devices)
    from rich.console import Console

    import tasks
    from bench.outer import run as run_
    from bench.outer.folders import read_config
    from bench.outer.publish import restore

    settings, seconds = read_config(config), _duration(budget)
    if resume_from:
        restore(settings, folders.results_dir, resume_from)
    where = {"data_dir": folders.data_dir, "cache_dir": folders.cache_dir}
    family, facts = tasks.load_family(settings.family, **where), tasks.data_facts(settings.family, **where)
    console = Console(stderr=as_json)
    with progress_bar(settings.outer_steps, f"outer-training {settings.name}", console) as (log, advance):
        path, summary = run_.run(
            settings,
            family,
            facts,
            folders.results_dir,
            resume=resume or resume_from is not None,
            num_devices=devices,
            budget_seconds=seconds,
            log=log,
            advance=advance,
        )
    if as_json:
        print_json({"weights": str(path), **summary})
    else:
        click.echo(f"weights: {path}\nuse: bench run -o {path}, or learned.load({str(path)!r})")


def _duration(text: str | None) -> float:
    if text is None:
        return float("inf")
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        value = float(text[:-1]) * (unit or float("nan"))
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UsageError(f"--budget expects a time like 2h, 30m or 90s, got {text!r}")
    return value
