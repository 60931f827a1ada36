"""`bench open` and `bench site`: pages that a browser shows."""

from pathlib import Path

import click

from bench.cli.options import folder_options
from bench.folders import Folders


@click.command("open")
@click.argument("name", metavar="[SUITE[/LABEL]]", required=False)
@folder_options
def open_command(name: str | None, folders: Folders) -> None:
    """Open a report in a browser: the one written last, or the last of a suite.

    Prints its path; where no browser can be started that is all.
    """
    import webbrowser

    from bench.report.stored import last_report

    page = last_report(name, folders=folders)
    click.echo(f"report: {page}")
    if not webbrowser.open(page.resolve().as_uri()):
        click.echo("no browser could be started here: open the file above", err=True)


@click.command()
@click.option(
    "--out", default="build/site", show_default=True, metavar="DIR", help="Folder to write; a board there is replaced."
)
@folder_options
def site(out: str, folders: Folders) -> None:
    """Build the board: an index of all published results, their reports, and the cards of shipped weights.

    It is one folder of static files, to be opened from the disk or served as it is.
    """
    from bench.report.site import write_site

    click.echo(f"board: {write_site(Path(out), folders=folders)}")
