"""Whether two plans read the same data, tokenizer and model: names alone do not tell."""

from collections.abc import Iterator

from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.trees import flatten

_LIBRARY = "data.source"
_NAMED = 3
"""Changed values that a message names."""


def changed_inputs(before: Plan, after: Plan) -> Iterator[Problem]:
    """A problem for everything that the run began with and that has other content now."""
    for key, value, what in _differences(before, after):
        reason = f"{what} changed since this run was started, and its result depends on it"
        before_that = f"{before.inputs.data}" if key == _LIBRARY else "the files as they were"
        fix = f"{before_that}, or a new folder: leave hydra.run.dir out"
        yield Problem(key, value, reason, "what the run began with", fix)


def other_inputs(first: Plan, here: Plan) -> Iterator[Problem]:
    """A problem for everything of which this node has another copy than the first."""
    for key, value, what in _differences(first, here):
        shared = "copy the files of node 0, or use a folder that all nodes share"
        fix = f"{first.inputs.data} on every node" if key == _LIBRARY else shared
        yield Problem(key, value, f"node 0 has another copy: {what} differs", "the same files", fix)


def _differences(before: Plan, after: Plan) -> Iterator[tuple[str, str, str]]:
    """Key, value, and what has other content under the same name, as far as both plans know it."""
    old, new = before.experiment, after.experiment
    if old.data == new.data and _differ(before.inputs.data, after.inputs.data):
        if new.data.source == "python_stdlib":
            yield _LIBRARY, f"python_stdlib of {after.inputs.data}", "the standard library"
        else:
            yield "data.path", str(new.data.path), "the data"
    if before.model.tokenizer == after.model.tokenizer and _differ(
        before.inputs.tokenizer, after.inputs.tokenizer
    ):
        yield "model.tokenizer", after.model.tokenizer, "the tokenizer"
    if old.model == new.model and _differ(before.model.config, after.model.config):
        yield "model.name_or_path", after.model.name, f"config.json ({_changed_values(before, after)})"


def _differ(old: object, new: object) -> bool:
    return bool(old) and bool(new) and old != new


def _changed_values(before: Plan, after: Plan) -> str:
    old, new = flatten(before.model.config), flatten(after.model.config)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    named = [f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed[:_NAMED]]
    return ", ".join(named) + (", …" if changed[_NAMED:] else "")
