"""Hydra's command line: flags and overrides in any order, and no argument echoed that may hold a secret."""

import argparse
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from zpipe.compose.names import override_for_flag
from zpipe.compose.option_folders import use_config_dir
from zpipe.problems import Problem, Refusal, nearest, refuse_if_any

ALTERNATIVES = {
    "run": "--run",
    "multirun": "--multirun",
    "cfg": "--cfg",
    "info": "--info",
    "shell_completion": "--shell-completion",
}
"""Flags that exclude each other (hydra/_internal/utils.py, _run_hydra)."""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Hydra's namespace with `overrides`; --config-dir holds from now on.

    Raises Refusal for a flag that Hydra does not have, or a --config-dir that is not a folder.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parsed, unknown = parser.parse_known_intermixed_args(arguments)
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    refuse = [_unknown(text, flags, arguments) for text in unknown]
    given = [flag for name, flag in ALTERNATIVES.items() if getattr(parsed, name, None)]
    if len(given) > 1:
        reason = "Hydra does only one of these at a time"
        refuse.append(Problem(" ".join(given), "", reason, ", ".join(ALTERNATIVES.values()), given[0]))
    refuse_if_any(refuse)
    use_config_dir(parsed.config_dir)
    return parsed


def _refuse(message: str) -> NoReturn:
    raise Refusal([Problem("zpipe", "", message.removeprefix("argument "), fix="zpipe --hydra-help")])


def _unknown(text: str, flags: list[str], arguments: list[str]) -> Problem:
    flag = text.partition("=")[0]
    near = override_for_flag(text, arguments) or " or ".join(nearest(flag, [*flags, "--help"]))
    return Problem(flag, "", "no such option", "zpipe --help, zpipe --hydra-help", near)
