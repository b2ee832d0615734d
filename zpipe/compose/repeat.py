"""The overrides that repeat a run from its plan.

A plan may come from somebody else, so what it sets obeys the rules of a recipe: it chooses neither code nor a
server that would get credentials.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import implied_options, rewrite
from zpipe.compose.recipe_rules import recipe_problems
from zpipe.compose.recipes import RECIPE
from zpipe.compose.settings import override
from zpipe.paths import absolute, expanded
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import CHOSEN, Provenance
from zpipe.problems import Problem, refuse_if_any
from zpipe.redact import HIDDEN
from zpipe.resources import config_groups
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan
from zpipe.schema.experiment import Experiment
from zpipe.schema.options import AUTO, DECIDING, option_of
from zpipe.trees import flatten, unflatten


@dataclass(frozen=True)
class Repetition:
    """What composes an experiment from zpipe's own options: they, and what must be changed then."""

    options: Mapping[str, str]
    """By group."""
    changed: Mapping[str, Any]
    """Values by their dotted keys."""
    removed: tuple[str, ...]
    """Keys that the options have and the experiment has not."""

    @classmethod
    def of(cls, experiment: Experiment, provenance: Provenance) -> Self:
        options = dict(_options(experiment, provenance))
        recorded = [f"{group}={option}" for group, option in options.items()]
        base = flatten(compose_once(rewrite(recorded)).experiment.model_dump(mode="json"))
        # A plan does not repeat the trust that the user gave then.
        wanted = {**flatten(experiment.model_dump(mode="json")), "resume.trust": False}
        changed = {key: value for key, value in wanted.items() if key not in base or base[key] != value}
        removed = tuple(key for key in base if key not in wanted and not _is_replaced(key, wanted))
        return cls(options, changed, removed)


def repeating(plan: Plan, more: list[str]) -> list[str]:
    """Overrides of a run with the settings of the plan, changed by `more`. Raises Refusal."""
    more = [*(each for each in implied_options(more) if not _has_option(plan, each)), *more]
    typed = {text.partition("=")[0].lstrip("+~") for text in more}
    replaced = typed.union(*(_replaced_with(group, plan.provenance) for group in typed))
    repetition = Repetition.of(plan.experiment, plan.provenance)
    changed = {key: value for key, value in repetition.changed.items() if key not in replaced}
    file = f"the plan of {plan.run_dir}"
    refuse_if_any([*recipe_problems(unflatten(changed), file), *_hidden(changed)])
    removed = [f"~{key}" for key in repetition.removed]
    kept = [f"{group}={option}" for group, option in repetition.options.items() if group not in typed]
    return [*kept, *removed, *(override(key, value) for key, value in changed.items()), *more]


def _has_option(plan: Plan, text: str) -> bool:
    group, _, option = text.partition("=")
    choice = plan.provenance.options.get(group)
    return choice is not None and choice.option == option


def continuing(folder: RunFolder, more: list[str]) -> list[str]:
    """Overrides with which the run of this folder goes on, changed by `more`. Raises Refusal."""
    plan = read_plan(folder.path)
    given = [text for text in repeating(plan, more) if not text.startswith("resume.checkpoint=")]
    is_there = Path(plan.run_dir).resolve() == folder.path.resolve()
    return [*given, override("hydra.run.dir", plan.run_dir if is_there else str(folder.path))]


def continued(overrides: list[str]) -> list[str]:
    """The overrides; with resume=RUN_FOLDER, those with which that run goes on. Raises Refusal."""
    named = [text for text in overrides if text.startswith("resume=")]
    folder = _run_folder(named[-1].partition("=")[2]) if named else None
    if folder is None:
        return overrides
    return continuing(folder, [text for text in overrides if text not in named])


def _run_folder(text: str) -> RunFolder | None:
    """The run folder that the text names; None for auto, never and the folder of a checkpoint."""
    folder = RunFolder(absolute(expanded(text.strip("'\""))))
    return folder if folder.holds_run else None


def _options(experiment: Experiment, provenance: Provenance) -> Iterator[tuple[str, str]]:
    for group, choice in provenance.options.items():
        if group != RECIPE and choice.option in config_groups().get(group, ()):
            is_settled = choice.option == AUTO and getattr(experiment.auto, group, None) is False
            chosen = option_of(group, experiment) if is_settled else None
            yield group, chosen or choice.option


def _replaced_with(group: str, provenance: Provenance) -> set[str]:
    """The keys that a new option of the group decides anew: those of the old one, and what the plan chose."""
    chosen = (key for key in provenance.experiment if _was_chosen(key, provenance))
    return {
        f"{AUTO}.{group}",
        *DECIDING.get(group, ()),
        *(key for key in chosen if key.startswith(f"{group}.")),
    }


def _was_chosen(key: str, provenance: Provenance) -> bool:
    return provenance.chain(key)[-1].source.startswith(CHOSEN)


def _is_replaced(key: str, wanted: Mapping[str, Any]) -> bool:
    """Whether a key is missing only because its mapping is empty in one of the two."""
    return any(each.startswith(f"{key}.") for each in wanted)


def _hidden(changed: Mapping[str, Any]) -> Iterator[Problem]:
    for key, value in changed.items():
        if HIDDEN in str(value):
            reason = "the plan does not hold this secret"
            yield Problem(key, value, reason, "the value, on the command line", f"{key}=…")
