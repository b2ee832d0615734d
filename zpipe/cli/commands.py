"""Suggestions for a command that zpipe does not have."""

import shlex
from itertools import pairwise

from zpipe.problems import Problem, nearest

OTHER_NAMES = {
    **dict.fromkeys(("train", "fit", "finetune", "sft", "launch", "start"), "run"),
    **dict.fromkeys(("check", "validate", "dry-run", "compile", "preview", "estimate"), "plan"),
    **dict.fromkeys(("preflight", "healthcheck", "env", "test"), "doctor"),
    **dict.fromkeys(("ls", "list", "ps", "history"), "runs"),
    **dict.fromkeys(("status", "info", "logs", "describe", "inspect"), "show"),
    **dict.fromkeys(("checkpoint", "ckpt", "ckpts", "verify"), "checkpoints"),
    **dict.fromkeys(("zero_to_fp32", "merge", "consolidate"), "export"),
    **dict.fromkeys(("compare",), "diff"),
    **dict.fromkeys(("convert", "migrate"), "import"),
    **dict.fromkeys(("repeat", "retry"), "rerun"),
    **dict.fromkeys(("mlflow", "dashboard", "server"), "ui"),
    **dict.fromkeys(("version",), "--version"),
}
"""Commands of other tools, with zpipe's."""

_GO_ON = ("resume", "continue")


def is_bare_word(text: str) -> bool:
    """Whether the text can only be a command: neither an override nor a flag."""
    return "=" not in text and not text.startswith(("-", "~", "+"))


def no_such_command(name: str, rest: list[str]) -> Problem:
    """The problem with an unknown command, with the similar ones and the arguments that followed it."""
    from zpipe.cli.main import VERBS

    allowed = ", ".join(["run", *VERBS])
    if name in _GO_ON:
        return Problem(name, "", "no such command", allowed, _going_on(rest))
    near = [OTHER_NAMES[name]] if name in OTHER_NAMES else nearest(name, ["run", *VERBS])
    fix = " or ".join(shlex.join(["zpipe", *command.split(), *rest]) for command in near)
    return Problem(name, "", "no such command", allowed, fix or "zpipe --help")


def _going_on(rest: list[str]) -> str:
    """How a run goes on, which is an override, or a sweep."""
    run, *more = rest or ["RUN_FOLDER"]
    return f"{shlex.join(['zpipe', f'resume={run}', *more])} or zpipe sweep resume FOLDER"


def misplaced_command(arguments: list[str]) -> Problem | None:
    """A command after overrides: `zpipe stage=3 plan`."""
    from zpipe.cli.main import VERBS

    for before, name in pairwise(arguments):
        if name in VERBS and not before.startswith("-"):
            others = [text for text in arguments if text not in (name, "run")]
            return Problem(name, "", "the command comes first", fix=shlex.join(["zpipe", name, *others]))
    return None
