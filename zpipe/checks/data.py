"""Model and data."""

from collections.abc import Iterator
from itertools import islice

from zpipe.data.inspection import inspect
from zpipe.data.refusals import PATH_FIX
from zpipe.data.sources import READERS
from zpipe.facts.facts import Facts
from zpipe.paths import expanded
from zpipe.plans.plan import Notice
from zpipe.problems import Fix, Problem, either
from zpipe.schema.data import Data
from zpipe.schema.experiment import Experiment

MOST_TRIED = 20
"""Files next to a wrong path that are looked at for a fix."""
_EXAMPLE = "train.jsonl"


def one_source_of_weights(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either pretrained weights or an architecture with random weights."""
    model = experiment.model
    if model.name_or_path is not None and model.config:
        yield Problem(
            "model.config",
            "…",
            f"ignored, because model.name_or_path={model.name_or_path} has its own configuration",
            "one of the two",
            either("model=pretrained"),
        )
    if model.name_or_path is None and "model_type" not in model.config:
        yield Problem(
            "model.name_or_path",
            None,
            "neither a pretrained model nor an architecture is set",
            "a folder, a hub id, or model.config with model_type",
            either("model=tiny", "model.name_or_path=Qwen/Qwen2.5-0.5B"),
        )


def sequences_fit_the_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Positions beyond the model's maximum give wrong results or an index error."""
    longest = facts.model.config.get("max_position_embeddings") or facts.model.config.get("n_positions")
    if longest is not None and experiment.data.max_length > int(longest):
        yield Problem(
            "data.max_length",
            experiment.data.max_length,
            f"the model has only {longest} positions",
            f"up to {longest}",
            either(f"data.max_length={longest}"),
        )


def path_needs_source_files(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The standard library needs no path, so a path would be ignored."""
    data = experiment.data
    if data.source == "python_stdlib" and data.path is not None:
        reason = "ignored, because data.source=python_stdlib trains on Python's standard library"
        yield Problem("data.path", data.path, reason, "null with data=python_stdlib", either("data=files"))


def data_is_usable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the files, or with the rows that the plan has read."""
    for problem in facts.data.problems:
        fix = _fixes(problem.value) if problem.fix == PATH_FIX else either(*problem.fix.split(", or "))
        yield problem._replace(fix=fix)


def _fixes(given: object) -> Fix:
    """Up to three data files next to the given path, or an example, and the data that needs no path."""
    siblings = expanded(given).parent.glob("*") if isinstance(given, str) and given else ()
    names = islice(sorted(str(file) for file in siblings if file.suffix.lower() in READERS), MOST_TRIED)
    readable = list(islice((name for name in names if not inspect(Data(path=name)).problems), 3))
    no_path = "data=python_stdlib" if given is None else "data=python_stdlib data.path=null"
    example = [] if given == _EXAMPLE else [_EXAMPLE]
    return either(*(f"data.path={name}" for name in readable or example), no_path)


def say_what_the_data_shows(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Columns and files that are left out, and how cells are separated."""
    for remark in facts.data.remarks:
        yield Notice(level=remark.level, key=remark.key, text=remark.text)


def say_that_examples_are_joined(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Packing does not keep examples apart."""
    data = experiment.data
    if data.packing != "wrapped" or data.source != "files":
        return
    text = f"examples are joined and cut every {data.max_length} tokens: they attend to each other"
    if facts.data.layout == "text":
        yield Notice(level="info", key="data.packing", text=text)
    else:
        text += ", and a reply that is cut is trained without its prompt; data.packing=none keeps them apart"
        yield Notice(level="warning", key="data.packing", text=text)


ERRORS = (one_source_of_weights, sequences_fit_the_model, path_needs_source_files, data_is_usable)
NOTICES = (say_what_the_data_shows, say_that_examples_are_joined)
