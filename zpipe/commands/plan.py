"""`zpipe plan [OVERRIDES]`: compile, print and write; spawn nothing, import nothing heavy."""

import json
import shlex

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit
from zpipe.facts.hardware import detect
from zpipe.plan import Plan, claim, write_plan
from zpipe.preflight import unwritable
from zpipe.problems import Problem, Refusal, refuse_if_any


def plan(arguments: list[str]) -> int:
    """Raises Refusal with every problem."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    if flags:
        reason = "zpipe plan takes overrides alone; a sweep is planned point by point"
        raise Refusal([Problem("plan", " ".join(flags), reason, "GROUP=OPTION and GROUP.KEY=VALUE")])
    composed = compose_once(rewrite(arguments))
    compiled = compile_plan(composed.experiment, composed.run_dir, arguments, detect())
    claim(compiled.folder)
    refuse_if_any(unwritable(compiled.folder))
    write_plan(compiled)
    print(render(compiled), end="")
    return Exit.FINISHED


def render(compiled: Plan) -> str:
    """The plan for people, top down."""
    launch, model = compiled.launch, compiled.model
    parameters = f"{model.parameters / 1e6:,.1f} million parameters" if model.parameters else "size unknown"
    sequences = compiled.sequences_per_pass * compiled.ds_config["gradient_accumulation_steps"]
    sections = [
        f"model      {model.name}, {parameters}{', random weights' if model.random_init else ''}",
        f"device     {launch.device}, {launch.world_size} process(es) under {launch.launcher}",
        f"batch      {sequences} sequences, {compiled.tokens_per_step} tokens a step",
        f"operators  {', '.join(compiled.operators) or 'none to build'}",
    ]
    if compiled.swap_dir:
        sections.append(f"swap       {compiled.swap_dir}")
    sections += [f"{notice.level:<10} {notice.key}: {notice.text}" for notice in compiled.notices]
    sections += [f"{'auto':<10} {key}: {reason}" for key, reason in compiled.unresolved.items()]
    sections += ["", "ds_config.json", json.dumps(compiled.ds_config, indent=2), "", "command"]
    sections += [f"  {shlex.join(launch.argv)}" if launch.argv else "  (in this process)", "", "written"]
    sections += [f"  {compiled.folder / name}" for name in ("plan.json", "ds_config.json")]
    return "\n".join(sections) + "\n"
