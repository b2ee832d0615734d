"""`zpipe plan [OVERRIDES]`: compile, print and write; spawn nothing, import nothing heavy."""

import argparse
import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from typing import NoReturn

from zpipe.cli.output import FORMATS, Format, is_data, print_data
from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit
from zpipe.machine.hardware import detect
from zpipe.machine.probes import unwritable
from zpipe.plan.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.plan_file import folder_of, write_plan


def plan(arguments: list[str]) -> int:
    """Raises Refusal with every problem."""
    options = _options(arguments)
    if options.multirun:
        from zpipe.cli.plan_points import plan_points

        return plan_points(options.overrides, options.format)
    composed = compose_once(rewrite(options.overrides))
    compiled = compile_plan(
        composed.experiment, composed.run_dir, options.overrides, detect(), composed.provenance
    )
    if options.explain is not None:
        print_explanations(without_secrets(compiled), options.explain, options.format)
        return Exit.FINISHED
    folder_of(compiled).claim()
    refuse_if_any(unwritable(composed.run_dir))
    write_plan(compiled)
    print_plan(without_secrets(compiled), options.format)
    return Exit.FINISHED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        allowed = "OVERRIDES, --explain [KEY], --format FORMAT, -m"
        raise Refusal([Problem("zpipe plan", "", message, allowed)])


def _options(arguments: list[str]) -> argparse.Namespace:
    """Flags may stand before, between and behind the overrides."""
    parser = _Parser(prog="zpipe plan", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--explain", nargs="?", const="")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("-m", "--multirun", action="store_true")
    options = parser.parse_intermixed_args(_with_key_attached(arguments))
    if options.multirun and options.explain is not None:
        reason = "each point of a sweep has its own sources"
        raise Refusal([Problem("zpipe plan", "", f"--explain with -m: {reason}", fix="leave -m out")])
    return options


def _with_key_attached(arguments: list[str]) -> list[str]:
    """`--explain KEY` becomes `--explain=KEY`, so that an override behind a lone --explain stays one."""
    attached: list[str] = []
    for argument in arguments:
        if attached and attached[-1] == "--explain":
            is_key = not argument.startswith(("-", "~", "+")) and "=" not in argument
            attached[-1] = f"--explain={argument if is_key else ''}"
            if is_key:
                continue
        attached.append(argument)
    return attached


def print_explanations(compiled: Plan, key: str, form: Format) -> None:
    """One key gets all that is known about it, several get a line each. Raises Refusal for an unknown key."""
    from zpipe.explain.explain import COLUMNS, explain, page, rows
    from zpipe.terminal.console import print_table

    explanations = explain(compiled, key)
    if is_data(form):
        print_data([asdict(each) for each in explanations], form)
    elif len(explanations) == 1 and form == "text":
        print(page(explanations[0]), end="")
    else:
        print_table(COLUMNS, rows(explanations))


def print_plan(compiled: Plan, form: Format) -> None:
    """The whole plan, in one of the formats."""
    if is_data(form):
        print_data(compiled.model_dump(mode="json"), form)
    elif form == "table":
        from zpipe.terminal.console import print_table

        print_table(("", "plan"), _facts(compiled))
        print_explanations(compiled, "", form)
    else:
        print(render(compiled), end="")


def render(compiled: Plan) -> str:
    """The plan for people, top down."""
    folder = folder_of(compiled)
    lines = [f"{title:<10} {text}" for title, text in _facts(compiled)]
    lines += [f"{'auto':<10} {key}: {reason}" for key, reason in compiled.unresolved.items()]
    lines += ["", "ds_config.json", json.dumps(compiled.ds_config, indent=2), "", "command"]
    lines += [f"  {shlex.join(compiled.launch.argv)}" if compiled.launch.argv else "  (in this process)", ""]
    lines += ["written", f"  {folder.plan}", f"  {folder.ds_config}"]
    return "\n".join(lines) + "\n"


def _facts(compiled: Plan) -> Iterable[tuple[str, str]]:
    launch, model = compiled.launch, compiled.model
    parameters = f"{model.parameters / 1e6:,.1f} million parameters" if model.parameters else "size unknown"
    sequences = compiled.sequences_per_pass * compiled.ds_config["gradient_accumulation_steps"]
    yield "model", f"{model.name}, {parameters}{', random weights' if model.random_init else ''}"
    yield "device", f"{launch.device}, {launch.world_size} process(es) under {launch.launcher}"
    yield "batch", f"{sequences} sequences, {compiled.tokens_per_step} tokens a step"
    yield "operators", ", ".join(compiled.operators) or "none to build"
    if compiled.swap_dir:
        yield "swap", compiled.swap_dir
    for notice in compiled.notices:
        yield notice.level, f"{notice.key}: {notice.text}"
