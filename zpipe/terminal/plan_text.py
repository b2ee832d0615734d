"""The plan of a run as text for people."""

import json
from collections.abc import Iterator, Sequence

from zpipe.launchers import launcher_of
from zpipe.machine.packages import missing_packages
from zpipe.plans.flops import TrainingFlops
from zpipe.plans.plan import CheckpointSpace, Plan
from zpipe.runfolder.plan_file import folder_of
from zpipe.terminal.choice_text import choice_lines
from zpipe.terminal.memory_text import memory_line
from zpipe.terminal.shell_text import command_text, word
from zpipe.terminal.units import size

Rows = Sequence[tuple[str, str]]
"""Lines of a summary: title and text."""


def render(compiled: Plan, rows: Rows = (), is_written: bool = True) -> str:
    """The plan as text, the summary first."""
    folder = folder_of(compiled)
    lines = [f"{title:<10} {text}" for title, text in (*rows, *facts(compiled))]
    lines += [f"{'auto':<10} {key}: {reason}" for key, reason in compiled.unresolved.items()]
    lines += ["", "ds_config.json", json.dumps(compiled.ds_config, indent=2), "", "command"]
    for name, text in compiled.launch.files.items():
        lines[-1:] = ["", str(folder.launch / name), text.rstrip(), "", "command"]
    lines += [launch_command(compiled) if compiled.launch.argv else "  (in this process)", ""]
    if is_written:
        lines += ["written", f"  {folder.plan}", f"  {folder.ds_config}"]
    return "\n".join(lines) + "\n"


def launch_command(compiled: Plan) -> str:
    """What a shell runs to start the workers without zpipe, which then nobody follows."""
    launch, attempt = compiled.launch, folder_of(compiled).attempt
    if launcher_of(launch.launcher).queues:
        return f"  {command_text(launch.argv)}"
    variables = [word(f"{name}={value}") for name, value in launch.env.items()]
    command = " \\\n    ".join(["env", *variables, *map(word, launch.argv)])
    return f"  mkdir -p {word(str(attempt.logs))}\n  {command}"


def facts(compiled: Plan) -> Iterator[tuple[str, str]]:
    """The lines of the summary, each with its title."""
    launch, model = compiled.launch, compiled.model
    parameters = f"{model.parameters / 1e6:,.1f} million parameters" if model.parameters else "size unknown"
    sequences = compiled.sequences_per_pass * compiled.ds_config["gradient_accumulation_steps"]
    yield "model", f"{model.name}, {parameters}{', random weights' if model.random_init else ''}"
    processes = _count(launch.world_size, "process", "processes")
    yield "device", f"{launch.device}, {processes} with {launch.launcher}"
    batch = _count(sequences, "sequence", "sequences")
    most = "up to " if compiled.experiment.data.packing == "none" else ""
    yield "batch", f"{batch}, {most}{compiled.tokens_per_step} tokens per step"
    if compiled.choice is not None:
        yield from (("auto", line) for line in choice_lines(compiled.choice))
    if compiled.flops is not None:
        yield "compute", _compute(compiled, compiled.flops)
    yield "operators", ", ".join(compiled.operators) or "none to build"
    if compiled.checkpoint_space is not None:
        yield "checkpoint", _checkpoints(compiled.checkpoint_space)
    if compiled.memory is not None:
        yield "memory", memory_line(compiled)
    if compiled.swap_dir:
        yield "swap", compiled.swap_dir
    for notice in compiled.notices:
        yield notice.level, f"{notice.key}: {notice.text}"
    for package in missing_packages(compiled):
        yield "missing", f"{package.key} is not installed here: {package.reason}; {package.fix}"


def _compute(compiled: Plan, flops: TrainingFlops) -> str:
    """The arithmetic of one token in a sequence of full length, and the peak that MFU is a share of."""
    each = f"{flops.per_token(compiled.experiment.data.max_length) / 1e9:.3g} GFLOP per token"
    if flops.peak is None:
        return each
    return f"{each}, peak {flops.peak / 1e12:,.4g} TFLOP/s per GPU"


def _checkpoints(space: CheckpointSpace) -> str:
    """How large one is, how many there are, and whether the disk has room for them."""
    one = "of unknown size" if space.bytes is None else f"{size(space.bytes)} each"
    saves = "" if space.saves is None else f", {_count(space.saves, 'save', 'saves')}"
    most = ""
    if space.at_once is not None:
        total = "" if space.bytes is None else f" ({size(space.bytes * space.at_once)})"
        most = f", at most {space.at_once} on the disk at a time{total}"
    return f"{one}{saves}{most}" + ("" if space.room is None else f"; room for {size(space.room)}")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
