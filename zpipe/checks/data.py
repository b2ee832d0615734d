"""Model and data: what can be checked without reading the data."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from zpipe.facts.facts import Facts
from zpipe.problems import Fix, Problem, either
from zpipe.schema.experiment import Experiment

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".text")


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


def data_path_is_readable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A path that is missing, empty or of an unsupported file type is refused before the run starts."""
    data = experiment.data
    if data.source != "files":
        return
    reason = _why_unreadable(data.path)
    if reason is not None:
        allowed = f"a {', '.join(SUFFIXES)} file, a folder of such files, or a hub id such as org/name"
        yield Problem("data.path", data.path, reason, allowed, _fixes(data.path))


def _why_unreadable(given: str | None) -> str | None:
    """None for a readable path, and for a name that is not written as a path: it may be a hub id."""
    if not given:
        return "not set" if given is None else "is empty"
    path = Path(given).expanduser()
    if not path.exists():
        return "no such file or folder" if _is_written_as_path(given) else None
    if path.is_dir():
        has_data = any(file.suffix in SUFFIXES for file in path.rglob("*"))
        return None if has_data else "the folder contains no data files"
    if path.is_file() and path.suffix not in SUFFIXES:
        return f"unsupported file type {path.suffix or '(no suffix)'}"
    return "the file is empty" if path.is_file() and path.stat().st_size == 0 else None


def _is_written_as_path(text: str) -> bool:
    return text.startswith(("/", ".", "~")) or text.endswith(SUFFIXES) or text.count("/") > 1


def _fixes(given: str | None) -> Fix:
    """Up to three data files next to the given path, or an example, and the data that needs no path."""
    siblings = Path(given).expanduser().parent.glob("*") if given else ()
    names = sorted(str(file) for file in siblings if file.suffix in SUFFIXES)
    readable = list(islice((name for name in names if _why_unreadable(name) is None), 3))
    no_path = "data=python_stdlib" if given is None else "data=python_stdlib data.path=null"
    return either(*(f"data.path={name}" for name in readable or ["train.jsonl"]), no_path)


ERRORS = (one_source_of_weights, sequences_fit_the_model, path_needs_source_files, data_path_is_readable)
