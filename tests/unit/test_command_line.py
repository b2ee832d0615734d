"""The command line is frozen: a renamed or removed command, flag, option or key changes a golden file."""

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.golden import assert_golden
from zpipe.cli.main import main
from zpipe.compose.names import known_keys
from zpipe.exits import Exit
from zpipe.resources import config_groups

FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")


def test_command_line_is_as_reviewed(capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(_commands(_help(capsys, "help")))
    verbs = dict.fromkeys(word for command in commands for word in command.split()[1:2] if word.isalpha())
    sections = {
        "Commands": commands,
        "Flags": [_flags("zpipe", _help(capsys, "help"))],
        "Groups": [f"{group}: {' '.join(options)}" for group, options in sorted(config_groups().items())],
        "Keys": sorted(known_keys()),
        "Exit codes": [f"{code.value} {code.name}" for code in Exit],
    }
    sections["Flags"] += [_flags(f"zpipe {verb}", _help(capsys, verb, "--help")) for verb in verbs]
    text = "\n".join("\n".join([f"# {title}", *lines, ""]) for title, lines in sections.items())
    assert_golden("command_line.txt", text)


def _help(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints to stdout. argparse raises SystemExit after printing the help."""
    with suppress(SystemExit):
        main(list(arguments))
    return capsys.readouterr().out


def _commands(overview: str) -> Iterator[str]:
    """The left column of the list of commands."""
    for line in overview.splitlines():
        if line.startswith("  zpipe"):
            yield re.split(r"\s{2,}", line.strip())[0]


def _flags(command: str, text: str) -> str:
    return " ".join([f"{command}:", *sorted(set(FLAG.findall(text)))])
