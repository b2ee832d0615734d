"""The command line: a registry of verbs, imported when used, and the exit codes of failures."""

import errno
import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from zpipe import __version__
from zpipe.exits import Exit
from zpipe.supervise.stops import Stopped, signals_noted

if TYPE_CHECKING:
    from zpipe.cli import (
        checkpoints,
        diff,
        doctor,
        export,
        import_,
        memory,
        plan,
        record,
        report,
        rerun,
        runs,
        show,
        sweep,
        ui,
    )
    from zpipe.cli.verb import Verb

    _CHECKED: tuple[Verb, ...] = (
        *(plan, memory, doctor, rerun, diff, import_, runs),
        *(show, checkpoints, export, ui, record, sweep, report),
    )

VERBS = {
    "plan": "zpipe.cli.plan",
    "memory": "zpipe.cli.memory",
    "doctor": "zpipe.cli.doctor",
    "rerun": "zpipe.cli.rerun",
    "diff": "zpipe.cli.diff",
    "import": "zpipe.cli.import_",
    "runs": "zpipe.cli.runs",
    "show": "zpipe.cli.show",
    "checkpoints": "zpipe.cli.checkpoints",
    "export": "zpipe.cli.export",
    "ui": "zpipe.cli.ui",
    "record": "zpipe.cli.record",
    "sweep": "zpipe.cli.sweep",
    "report": "zpipe.cli.report",
}
"""Modules that implement zpipe.cli.verb.Verb, in the order of `zpipe --help`."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    from zpipe.redact import remember_overrides
    from zpipe.terminal.safe_stream import errors_without_secrets, open_closed_streams

    # Otherwise pydantic reads the metadata of every installed package to look for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    open_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    remember_overrides(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be text in this locale
    with signals_noted(interrupt_at=1), errors_without_secrets():
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:
        return stop.exit_code if isinstance(stop, Stopped) else Exit.INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return Exit.PIPE_CLOSED
    except Exception as error:
        expected = _report(error)
        if expected is None:
            import traceback

            traceback.print_exc()
            return Exit.INTERNAL
        return expected


def run_verb(name: str, arguments: list[str]) -> int:
    """Parses the arguments of one verb, runs it and returns the exit code. Raises what Verb.run raises."""
    from zpipe.cli.arguments import Parser

    verb = _load(name)
    help_line = next(iter(verb.OVERVIEW.values()))
    parser = Parser(name, f"{help_line[0].upper()}{help_line[1:]}.")
    verb.add_arguments(parser)
    return verb.run(parser.parse(arguments))


def _dispatch(arguments: list[str]) -> int:
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if first in VERBS:
        return run_verb(first, rest)
    if first == "--version":
        print(f"zpipe {__version__}")
        return Exit.FINISHED
    if first == "help" and rest and rest[0] in VERBS:
        return run_verb(rest[0], ["--help"])
    _refuse_unknown_command(first, rest)
    if first == "help" or "--help" in arguments or "-h" in arguments:
        from zpipe.cli.overview import print_overview

        print_overview(_load(name).OVERVIEW for name in VERBS)
        return Exit.FINISHED
    from zpipe.cli.run import run

    return run(rest if first == "run" else arguments)


def _refuse_unknown_command(first: str, rest: list[str]) -> None:
    from zpipe.cli.commands import is_bare_word, misplaced_command, no_such_command
    from zpipe.problems import Refusal

    if first not in ("", "run", "help") and is_bare_word(first):
        raise Refusal([no_such_command(first, rest)])
    misplaced = misplaced_command([first, *rest]) if first != "help" else None
    if misplaced is not None:
        raise Refusal([misplaced])


def _report(error: Exception) -> Exit | None:
    """Prints an expected failure and returns its exit code; None for a defect of zpipe."""
    from zpipe.problems import Refusal
    from zpipe.record.errors import StoreUnreachable
    from zpipe.terminal.console import print_problems, say

    if isinstance(error, Refusal):
        print_problems(error.problems)
        return Exit.REFUSED
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        say(f"Refused: {error.strerror}: {str(error.filename)[:120]}…")
        return Exit.REFUSED
    if isinstance(error, StoreUnreachable):
        say(str(error))
        return Exit.ENVIRONMENT
    return None


def _load(name: str) -> "Verb":
    return cast("Verb", import_module(VERBS[name]))


def _discard_stdout() -> None:
    """The reader is gone (`zpipe plan | head`), and Python's flush at exit must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
