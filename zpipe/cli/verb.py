"""The interface of a verb. The idea is TorchX's (torchx.cli.cmd_base.SubCommand), with modules as verbs."""

import argparse
from typing import Protocol

from zpipe.cli.arguments import Parser


class Verb(Protocol):
    """A module of this package with one verb. It imports heavy packages only in `run`."""

    OVERVIEW: dict[str, str]
    """Lines of `zpipe --help`: the usage, such as `diff RUN_A RUN_B`, and one line of help.

    The first line describes the verb; further lines describe important options or subcommands.
    """

    def add_arguments(self, parser: Parser) -> None: ...

    def run(self, options: argparse.Namespace) -> int:
        """Returns the exit code. Raises Refusal for invalid input, StoreUnreachable for a failing store."""
        ...
