"""The command line: parse, build the frozen configuration, call one function that a notebook can also call.

The commands lie in the files beside this one, a file for each group of them. Nothing heavy is imported before a command
needs it, so that `bench --help` answers at once.
"""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from bench.cli import checking, listing, outer, pages, running, timing, tuning
from bench.cli.options import read_project_file
from bench.cli.terminal import bear_any_encoding
from bench.errors import EXIT_HARNESS_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, OutOfTime, UsageError, is_input_error


class _Commands(click.Group):
    """The commands; one whose time is over has come to a clean end, which click would take for a Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except OutOfTime:
            click.echo("time is over; what was finished is kept; the same command goes on", err=True)
            ctx.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lopt-bench", prog_name="bench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Does a learned optimizer beat hand-designed ones? Measure it: wall-clock and test loss."""
    read_project_file(context, list(cli.commands))


COMMANDS = (
    checking.cards_command,
    checking.check,
    checking.claims_command,
    running.compare,
    checking.doctor,
    tuning.freeze,
    listing.info,
    listing.list_command,
    pages.open_command,
    outer.outer_train_command,
    checking.prepare,
    running.publish,
    running.report,
    running.run,
    pages.site,
    timing.time_command,
    tuning.tune,
    checking.verify,
)
for command in COMMANDS:
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point: every error one line, every exit code as designed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    bear_any_encoding()
    try:
        cli.main(args=list(argv) if argv is not None else None, standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break what closes down
        click.echo(
            "interrupted; what was finished is kept; the command goes on from it (`bench outer-train` with --resume)",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        click.echo(f"bench: {' '.join(error.format_message().split())}", err=True)
        sys.exit(EXIT_USAGE)
    except UsageError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_HARNESS_ERROR)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # of what it prints, mostly
            where = error.filename or "the output"
            click.echo(f"bench: cannot write {where}: {error.strerror}; free some space", err=True)
            sys.exit(EXIT_USAGE)
        if is_input_error(error):
            click.echo(f"bench: {error}", err=True)
            sys.exit(EXIT_USAGE)
        if os.environ.get("BENCH_DEBUG"):
            raise
        text = (str(error).strip() or "no message").splitlines()[0]
        click.echo(f"bench: internal error: {type(error).__name__}: {text}; BENCH_DEBUG=1 shows where", err=True)
        sys.exit(EXIT_HARNESS_ERROR)


if __name__ == "__main__":
    main()
