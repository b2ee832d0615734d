"""Reads an exported folder back, and compares it piece by piece with the trained weights."""

from math import prod
from pathlib import Path

import torch

from zpipe.facts.weights import listed, shape_text
from zpipe.problems import Problem, Refusal
from zpipe.train.export.dtypes import TORCH, exported_dtype
from zpipe.train.export.expected import Expected
from zpipe.train.export.pieces import pieces
from zpipe.train.export.weights import INDEX_NAME, OnBytes, SavedWeights, Weights, weight_map


def check_tensors(
    folder: Path,
    expected: Expected,
    source: Weights,
    trained: SavedWeights | None,
    dtype: str,
    trained_dtype: str,
    on_bytes: OnBytes | None = None,
) -> int:
    """Returns how many tensors were compared with the weights that the training saved.

    `source` has the weights that were exported, `trained` those that the training saved, if it did. Raises
    Refusal, which names the tensor, unless the folder has exactly the tensors of the model, whole, finite, in
    the format that was asked for, and equal to both.
    """
    exported = SavedWeights(folder)
    problem = _index_problem(folder, exported) or expected.problem_with(exported.shapes)
    if problem:
        raise Refusal([not_the_model(problem)])
    compared = 0
    for name in exported.shapes:
        problem = _form_problem(name, exported, source, dtype)
        if problem:
            raise Refusal([not_the_model(problem)])
        is_compared = trained is not None and name in trained.shapes
        for piece in pieces(exported.shapes[name]):
            values, origin = exported.part(name, piece), source.part(name, piece)
            problem = _value_problem(name, values, origin, dtype)
            if problem is None and trained is not None and is_compared:
                saved = trained.part(name, piece)
                problem = _training_problem(name, origin, saved, trained_dtype, source.kind)
            if problem:
                raise Refusal([not_the_model(problem)])
            if on_bytes is not None:
                on_bytes(values.nbytes)
        compared += is_compared
    return compared


def check_source(expected: Expected, source: Weights) -> None:
    """Raises Refusal unless the source has exactly the tensors of the model."""
    problem = expected.problem_with(source.shapes)
    if problem:
        raise Refusal([Problem("RUN", "", f"{source.kind} are not those of the model: {problem}")])


def _index_problem(folder: Path, exported: SavedWeights) -> str | None:
    """Whether each file has the tensors that the index says."""
    if not (folder / INDEX_NAME).exists():
        return None
    places = weight_map(folder)
    wrong = [name for name, file in places.items() if name not in exported.names_in(file)]
    if wrong:
        return f"{places[wrong[0]]} lacks {listed(wrong)}, which the index says it has"
    unlisted = sorted(set(exported.shapes) - set(places))
    return f"the index lacks {listed(unlisted)}" if unlisted else None


def _form_problem(name: str, exported: Weights, source: Weights, dtype: str) -> str | None:
    wanted, found = exported_dtype(source.dtype(name), dtype), exported.dtype(name)
    shape, right = exported.shapes[name], source.shapes[name]
    if prod(shape) == 0:
        return f"{name} is empty"
    if found != wanted:
        return f"{name} is {found} instead of {wanted}"
    return None if shape == right else f"{name} is {shape_text(shape)} instead of {shape_text(right)}"


def _value_problem(name: str, values: torch.Tensor, origin: torch.Tensor, dtype: str) -> str | None:
    if values.is_floating_point() and not _is_finite(values):
        hint = f", but was finite before: its values are too large for {dtype}" if _is_finite(origin) else ""
        return f"{name} is not finite{hint}"
    return None if torch.equal(values, origin.to(values.dtype)) else f"{name} is not what was read"


def _training_problem(
    name: str, origin: torch.Tensor, saved: torch.Tensor, trained_dtype: str, kind: str
) -> str | None:
    """Whether the weights, rounded as the training rounds them, are those that it saved."""
    rounded = origin.to(TORCH[trained_dtype]) if origin.is_floating_point() else origin
    if rounded.shape == saved.shape and torch.equal(rounded.to(saved.dtype), saved):
        return None
    return f"{name} in {kind} is not what the training saved in {trained_dtype}"


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def not_the_model(reason: str) -> Problem:
    """What a failed verification says."""
    return Problem("export", "", f"the export is not the trained model, and was removed: {reason}")
