"""Model and data: what can be said before anything is read whole."""

from collections.abc import Iterator
from pathlib import Path

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt", ".text")


def one_source_of_weights(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either pretrained weights or an architecture."""
    model = experiment.model
    if model.name_or_path is not None and model.config:
        yield Problem(
            "model.config",
            "…",
            f"model.name_or_path={model.name_or_path} brings its own, this one would be ignored",
            "one of the two",
            "model=pretrained",
        )
    if model.name_or_path is None and "model_type" not in model.config:
        yield Problem(
            "model.name_or_path",
            None,
            "neither a pretrained model nor an architecture is given",
            "a folder, a hub id, or model.config with model_type",
            "model=tiny, or model.name_or_path=Qwen/Qwen2.5-0.5B",
        )


def sequences_fit_the_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Positions beyond what the model was built for give nonsense or an index error."""
    longest = facts.model.config.get("max_position_embeddings") or facts.model.config.get("n_positions")
    if longest is not None and experiment.data.max_length > int(longest):
        yield Problem(
            "data.max_length",
            experiment.data.max_length,
            f"the model has {longest} positions",
            f"up to {longest}",
            f"data.max_length={longest}",
        )


def a_given_path_is_read(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The standard library needs no path: one that is given would be left out of the training."""
    data = experiment.data
    if data.source == "python_stdlib" and data.path is not None:
        reason = "data.source=python_stdlib trains on Python's standard library and would ignore it"
        yield Problem("data.path", data.path, reason, "null with data=python_stdlib", "data=files")


def data_is_there(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A path that is missing, empty or of an unknown kind is refused before anything starts."""
    data = experiment.data
    if data.source != "files":
        return
    allowed = f"a {', '.join(SUFFIXES)} file, a folder of such, or a hub id such as org/name"
    if not data.path:
        reason = "not given" if data.path is None else "it is empty"
        yield Problem("data.path", data.path, reason, allowed, "data.path=train.jsonl, or data=python_stdlib")
        return
    path = Path(data.path).expanduser()
    if not path.exists():
        if _is_written_as_path(data.path):
            yield Problem("data.path", data.path, "no such file or folder", allowed, _neighbours(path))
        return
    if path.is_file() and path.suffix not in SUFFIXES:
        yield Problem("data.path", data.path, f"unknown kind of file {path.suffix or '(no suffix)'}", allowed)
    elif path.is_file() and path.stat().st_size == 0:
        yield Problem(
            "data.path", data.path, "the file is empty", allowed, "a file with at least one example"
        )
    elif path.is_dir() and not any(file.suffix in SUFFIXES for file in path.rglob("*")):
        yield Problem("data.path", data.path, "the folder holds no data files", allowed)


def _is_written_as_path(text: str) -> bool:
    return text.startswith(("/", ".", "~")) or text.endswith(SUFFIXES) or text.count("/") > 1


def _neighbours(path: Path) -> str:
    folder = path.parent
    files = (
        sorted(file.name for file in folder.glob("*") if file.suffix in SUFFIXES) if folder.is_dir() else []
    )
    return " or ".join(f"data.path={folder / name}" for name in files[:3])


ERRORS = (one_source_of_weights, sequences_fit_the_model, a_given_path_is_read, data_is_there)
