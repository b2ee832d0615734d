"""From a verified checkpoint to a model folder: what is written, what it needs, and that it is right."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from humanize import naturalsize

from zpipe.checkpoints.exportable import Exportable
from zpipe.machine.host_memory import HostMemoryReader
from zpipe.problems import Problem, Refusal
from zpipe.train.export.checking import check_source, check_tensors
from zpipe.train.export.companions import write_companions
from zpipe.train.export.dtypes import exported_dtype
from zpipe.train.export.expected import Expected, expected_tensors
from zpipe.train.export.forward import forward_bytes, forward_difference
from zpipe.train.export.layout import Entry, Layout
from zpipe.train.export.masters import MasterWeights, has_shards
from zpipe.train.export.staging import complete_or_absent, require_room
from zpipe.train.export.weights import SavedWeights, Weights, has_saved_weights
from zpipe.train.export.writing import write_weights

LIBRARY_BYTES = 600 << 20
"""Host memory of a process that has imported PyTorch, transformers and DeepSpeed."""
_COPIES = 3
"""Of the largest tensor in fp32: as it is read, as it is written, and for a comparison."""

Say = Callable[[str, str], None]
"""Told a title and what there is to say about it."""
Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None] | None]]
"""Shows the progress of work on a number of bytes."""


@dataclass(frozen=True)
class Request:
    """What to export, and how."""

    source: Exportable
    trained_dtype: str
    """In which the training computed: fp32, bf16 or fp16."""
    dtype: str
    output: Path
    most_bytes: int
    """Of one file of weights."""


def export(request: Request, say: Say, watch: Watch) -> None:
    """Writes the folder and verifies it before it gets its name.

    Raises Refusal for weights that cannot be exported or are not the model's, OSError if the disk fails.
    """
    folder = request.source.folder
    expected = expected_tensors(folder)
    trained = SavedWeights(folder) if has_saved_weights(folder) else None
    if trained is not None:
        trained.drop_copies(expected.tied)
    source = _weights(request, trained)
    check_source(expected, source)
    layout = Layout.of(_entries(source, request.dtype), request.most_bytes)
    say("weights", f"{source.kind}, {_formats(request)}")
    require_room(request.output, layout.bytes)
    files = "1 file" if len(layout.files) == 1 else f"{len(layout.files)} files"
    say("writes", f"{len(layout.entries)} tensors, {_size(layout.bytes)} in {files}")
    has_room = _tell_memory(layout, expected, request, say)
    with complete_or_absent(request.output) as staging:
        write_companions(folder, staging, request.dtype)
        with watch("writing", layout.bytes) as on_bytes:
            write_weights(staging, layout, source, on_bytes)
        _verify(request, staging, expected, source, trained, has_room, say, watch, layout.bytes)


def _weights(request: Request, trained: SavedWeights | None) -> Weights:
    """The saved weights where they have all that was asked for, otherwise the masters in the shards."""
    if trained is not None and request.trained_dtype in (request.dtype, "fp32"):
        return trained
    if not has_shards(request.source.folder):
        raise Refusal([_without_masters(request, trained)])
    return MasterWeights(request.source.folder)


def _without_masters(request: Request, trained: SavedWeights | None) -> Problem:
    folder = request.source.folder
    if trained is None:
        return Problem("RUN", str(folder), "it has neither saved weights nor shards with them")
    reason = f"{folder.name} has the weights in {request.trained_dtype} alone, not the fp32 masters"
    fix = f"--dtype {request.trained_dtype}, or --checkpoint N of a checkpoint with shards of stage 1 to 3"
    return Problem("--dtype", request.dtype, reason, request.trained_dtype, fix)


def _entries(source: Weights, dtype: str) -> list[Entry]:
    return [
        Entry(name, shape, exported_dtype(source.dtype(name), dtype)) for name, shape in source.shapes.items()
    ]


def _formats(request: Request) -> str:
    if request.dtype == request.trained_dtype:
        return f"in {request.dtype} as trained"
    return f"in {request.dtype}; the training computed in {request.trained_dtype}"


def _tell_memory(layout: Layout, expected: Expected, request: Request, say: Say) -> bool:
    """Says how much host memory is needed; returns whether that suffices for the forward passes."""
    writing = LIBRARY_BYTES + _COPIES * 4 * layout.largest_elements
    whole = max(writing, LIBRARY_BYTES + forward_bytes(expected.parameters, request.trained_dtype))
    memory = HostMemoryReader().read()
    free = memory.limit - memory.used
    say("memory", f"up to {_size(writing)} to write, {_size(whole)} to verify; {_size(free)} are free")
    return whole <= free


def _verify(
    request: Request,
    staging: Path,
    expected: Expected,
    source: Weights,
    trained: SavedWeights | None,
    has_room: bool,
    say: Say,
    watch: Watch,
    total: int,
) -> None:
    beside = None if source is trained else trained
    with watch("verifying", total) as on_bytes:
        compared = check_tensors(
            staging, expected, source, beside, request.dtype, request.trained_dtype, on_bytes
        )
    say("verified", "every tensor is there, finite and equal to what was read")
    if compared:
        say(
            "verified",
            f"{compared} tensors, rounded to {request.trained_dtype}, are those that the training saved",
        )
    if not has_room:
        say("verified", "no forward pass: a model in memory needs more than is free")
        return
    reference = request.source.folder if trained is not None else None
    difference = forward_difference(staging, reference, source, request.trained_dtype, request.dtype)
    found = "equal logits" if difference == 0 else f"logits differ by {difference:.1e}, within rounding"
    say("verified", f"a forward pass, compared with the trained weights: {found}")


def _size(count: int) -> str:
    return naturalsize(count, binary=True)
