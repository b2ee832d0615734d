"""Parses the arguments of a verb. Every invalid argument is a Refusal."""

import argparse
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from zpipe.problems import Problem, Refusal, nearest


class Parser(argparse.ArgumentParser):
    """Accepts options before, between and after the positional arguments; options cannot be abbreviated."""

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"zpipe {verb}", description=description, allow_abbrev=False)

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Raises Refusal for invalid arguments, SystemExit(0) after printing the help."""
        options, unknown = self.parse_known_intermixed_args(self._with_values_attached(arguments))
        if unknown:
            # What follows an unknown option may be its value.
            unknown_options = [text for text in unknown if text.startswith("-")]
            raise Refusal(self._unknown(text, arguments) for text in unknown_options or unknown)
        return options

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        raise Refusal([Problem(self.prog, "", message.removeprefix("argument "), usage)])

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse calls this for each value of an argument."""
        if action.choices is None or value in action.choices:
            return
        name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
        choices = [str(choice) for choice in action.choices]
        fix = " or ".join(nearest(str(value), choices))
        raise Refusal([Problem(name, value, "unknown value", ", ".join(choices), fix)])

    def _with_values_attached(self, arguments: Iterable[str]) -> list[str]:
        """`--explain KEY` becomes `--explain=KEY`, and `--explain` before an override becomes `--explain=`.

        Otherwise argparse would use the override as the optional value.
        """
        flags = {flag for flag, action in self._option_string_actions.items() if action.nargs == "?"}
        attached: list[str] = []
        for argument in arguments:
            if attached and attached[-1] in flags:
                is_value = not argument.startswith(("-", "~", "+")) and "=" not in argument
                attached[-1] += f"={argument if is_value else ''}"
                if is_value:
                    continue
            attached.append(argument)
        return attached

    def _unknown(self, text: str, arguments: list[str]) -> Problem:
        if not text.startswith("-"):
            return Problem(text, "", f"{self.prog} does not accept this argument", fix=f"{self.prog} --help")
        options = self._option_string_actions.items()
        visible = [flag for flag, action in options if action.help != argparse.SUPPRESS]
        flags = [flag for flag in visible if flag.startswith("--")]
        fix = " or ".join(nearest(text.partition("=")[0], flags))
        if not fix and any(action.dest == "overrides" for action in self._actions):
            from zpipe.compose.names import override_for_flag

            fix = override_for_flag(text, arguments)
        return Problem(text, "", f"{self.prog} does not have this option", ", ".join(flags), fix)


def whole_number(name: str, least: int, most: int) -> Callable[[str], int]:
    """The type of an argument: an integer in this range. It raises Refusal."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            reason = "not a whole number in the allowed range"
            raise Refusal([Problem(name, text, reason, f"{least} to {most}")])
        return int(text)

    return parse


_UNITS = {
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("", "K", "M", "G", "T"))},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), start=1)},
}
_BYTES = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]?i?B)", re.ASCII | re.IGNORECASE)


def byte_count(name: str) -> Callable[[str], int]:
    """The type of an argument: a size such as 500MB or 2GiB. It raises Refusal."""
    units = {unit.lower(): count for unit, count in _UNITS.items()}

    def parse(text: str) -> int:
        match = _BYTES.fullmatch(text.strip())
        count = int(float(match[1]) * units.get(match[2].lower(), 0)) if match else 0
        if count < 1:
            raise Refusal([Problem(name, text, "not a size", "a number and a unit: 500MB, 5GB, 2GiB")])
        return count

    return parse
