"""The checkpoint that a user names: of another run, which must fit this one and which the user must trust."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from zpipe.checkpoints.manifest import Manifest, read_manifest
from zpipe.checkpoints.shape import shape_problems, state_kind
from zpipe.checkpoints.state import CheckpointState, inspect
from zpipe.facts.shapes import has_known_shapes, parameter_shapes
from zpipe.facts.weights import read_json, shape_text
from zpipe.paths import expanded
from zpipe.plans.changes import result_digest
from zpipe.plans.effective import in_effect
from zpipe.plans.given import Given
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.schema.resume import AUTO, NEVER

_TAKEN_OVER = "learning rate, schedule and the state of the optimizer"
_OPTIONS = {"Adam": "adamw"}
"""The option of an optimizer that is not called like its kind of states."""


def given_checkpoint(plan: Plan) -> Path | None:
    """The folder in resume.checkpoint, if it names one."""
    text = plan.experiment.resume.checkpoint
    return None if text in (AUTO, NEVER) else expanded(text).absolute()


def given_problems(plan: Plan, folder: Path) -> list[Problem]:
    """Why this run cannot go on from the checkpoint, as far as its manifest and its config.json tell."""
    try:
        manifest = read_manifest(folder)
    except Refusal as refusal:
        reason = refusal.problems[0].reason
        allowed = "the folder of a checkpoint that zpipe wrote, auto, or never"
        return [Problem("resume", str(folder), f"not a checkpoint: {reason}", allowed)]
    problems = list(_differences(plan, manifest, folder))
    if not plan.experiment.resume.trust:
        reason = "a checkpoint of another run may come from somebody else"
        allowed = "a checkpoint that you trust"
        problems.append(Problem("resume", str(folder), reason, allowed, "resume.trust=true"))
    return problems


def inspected(plan: Plan, folder: Path, say: Callable[[str], None], quick: bool) -> CheckpointState:
    """The checkpoint, if it is intact; a quick inspection compares names and sizes only. Raises Refusal."""
    if not quick:
        say(f"checking {folder}")
    state = inspect(folder.resolve(), None, quick=quick)
    if state.state != "good":
        reason = f"this checkpoint is {state.state}: {'; '.join(state.damage[:3])}"
        refuse_if_any([Problem("resume", str(folder), reason, "an intact checkpoint")])
    if state.manifest is not None and state.manifest.plan_digest != result_digest(plan):
        say(f"warning: {folder.name} was written with other settings: {_TAKEN_OVER} come from the checkpoint")
    return state


def _differences(plan: Plan, manifest: Manifest, folder: Path) -> Iterator[Problem]:
    user = Given(plan.provenance)
    given, saved = plan.engine.dtype, manifest.dtype
    if given != saved:
        fix = in_effect(f"precision={saved}", user)
        yield Problem("precision", given, f"{folder} has another dtype", saved, fix)
    last = plan.experiment.train.max_steps
    if 0 < last <= manifest.step:
        reason = f"{folder} is of step {manifest.step}, so no step is left to train"
        fix = f"train.max_steps={manifest.step + last}"
        yield Problem("train.max_steps", last, reason, f"more than {manifest.step}", fix)
    kind = state_kind(manifest.optimizer or plan.engine.optimizer)
    if kind != state_kind(plan.engine.optimizer):
        reason = f"{folder} has the states of {manifest.optimizer}"
        fix = in_effect(f"optimizer={_OPTIONS.get(kind, kind.lower())}", user)
        yield Problem("optimizer", plan.engine.optimizer, reason, str(manifest.optimizer), fix)
    yield from _other_model(plan, folder)
    yield from shape_problems(plan, manifest)


def _other_model(plan: Plan, folder: Path) -> Iterator[Problem]:
    """The first parameter that has another shape in the checkpoint, where both shapes are known."""
    try:
        saved = read_json(folder / "config.json")
    except Refusal:
        return
    if not (has_known_shapes(plan.model.config) and has_known_shapes(saved)):
        return
    wanted, found = parameter_shapes(plan.model.config), parameter_shapes(saved)
    for name in (*wanted, *found):
        if wanted.get(name) != found.get(name):
            here, there = (
                shape_text(shapes[name]) if name in shapes else "absent" for shapes in (wanted, found)
            )
            reason = f"{folder} is of another model: {name} is {there} there, and {here} in this one"
            key = "model.config" if plan.model.random_init else "model.name_or_path"
            fix = _config_overrides(plan, saved) if plan.model.random_init else "the model of the checkpoint"
            yield Problem(key, plan.model.name, reason, "the model of the checkpoint", fix)
            return


def _config_overrides(plan: Plan, saved: Mapping[str, object]) -> str:
    own = plan.model.config
    differing = [name for name in own if name in saved and saved[name] != own[name]]
    return " ".join(f"model.config.{name}={saved[name]}" for name in differing)
