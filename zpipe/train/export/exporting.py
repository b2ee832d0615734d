"""From a verified checkpoint to a model folder: what is written, what it needs, and that it is right."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from humanize import naturalsize

from zpipe.checkpoints.exportable import Exportable
from zpipe.problems import Problem, Refusal
from zpipe.train.export.checking import check_source, check_tensors
from zpipe.train.export.companions import write_companions
from zpipe.train.export.dtypes import exported_dtype
from zpipe.train.export.expected import expected_tensors
from zpipe.train.export.forward import ForwardPasses, NoRoom, check_loading
from zpipe.train.export.layout import Entry, Layout
from zpipe.train.export.masters import MasterWeights, has_shards
from zpipe.train.export.memory import bytes_of_pieces, free_bytes, resident_bytes
from zpipe.train.export.staging import complete_or_absent, require_room
from zpipe.train.export.weights import SavedWeights, Watched, Weights, bytes_of, has_saved_weights
from zpipe.train.export.writing import write_weights

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
    exporter = _Exporter(request, say, watch)
    exporter.tell()
    exporter.tell_memory()
    with complete_or_absent(request.output) as staging:
        exporter.write(staging)
        exporter.verify(staging)


class _Exporter:
    """The weights of one request, and what the folder is to have."""

    def __init__(self, request: Request, say: Say, watch: Watch) -> None:
        self._request, self._say, self._watch = request, say, watch
        self._folder = request.source.folder
        self._expected = expected_tensors(self._folder)
        self._saved = SavedWeights(self._folder) if has_saved_weights(self._folder) else None
        if self._saved is not None:
            self._saved.drop_copies(self._expected.tied)
        self._source = self._chosen()
        check_source(self._expected, self._source)
        self._layout = Layout.of(_entries(self._source, request.dtype), request.most_bytes)
        require_room(request.output, self._layout.bytes)
        self._reference: Weights = self._source if self._saved is None else self._saved
        self._passes = ForwardPasses(self._folder, request.trained_dtype, self._expected)

    def tell(self) -> None:
        """Says what will be written, from what."""
        request, layout = self._request, self._layout
        computed = f"; the training computed in {request.trained_dtype}"
        how = " as trained" if request.dtype == request.trained_dtype else computed
        self._say("weights", f"{self._source.kind}, in {request.dtype}{how}")
        files = "1 file" if len(layout.files) == 1 else f"{len(layout.files)} files"
        self._say("writes", f"{len(layout.entries)} tensors, {_size(layout.bytes)} in {files}")

    def tell_memory(self) -> None:
        """Says how much host memory this process will have at most."""
        resident = resident_bytes()
        writing = resident + bytes_of_pieces(self._source.mapped_bytes)
        forward = resident + self._passes.predicted_bytes(self._source, self._reference)
        needed = f"up to {_size(writing)} to write and compare, {_size(forward)} for a forward pass"
        self._say("memory", f"{needed}; {_size(free_bytes())} are free")

    def write(self, staging: Path) -> None:
        write_companions(self._folder, staging, self._request.dtype)
        with self._watch("writing", self._layout.bytes) as on_bytes:
            write_weights(staging, self._layout, self._source, on_bytes)

    def verify(self, staging: Path) -> None:
        self._verify_tensors(staging)
        check_loading(staging)
        exported = SavedWeights(staging)
        try:
            with self._watch("forward passes", bytes_of(exported) + bytes_of(self._reference)) as on_bytes:
                watched = Watched(exported, on_bytes), Watched(self._reference, on_bytes)
                difference = self._passes.difference(*watched, self._request.dtype)
        except NoRoom:
            self._say("verified", "no forward pass: a model in memory needs more than is free")
            return
        found = "equal logits" if difference == 0 else f"logits differ by {difference:.1e}, within rounding"
        self._say("verified", f"a forward pass, compared with the trained weights: {found}")

    def _verify_tensors(self, staging: Path) -> None:
        trained_dtype = self._request.trained_dtype
        beside = None if self._source is self._saved else self._saved
        with self._watch("verifying", self._layout.bytes) as on_bytes:
            compared = check_tensors(
                staging, self._expected, self._source, beside, self._request.dtype, trained_dtype, on_bytes
            )
        self._say("verified", "every tensor is there, finite and equal to what was read")
        if compared:
            text = f"{compared} tensors, rounded to {trained_dtype}, are those that the training saved"
            self._say("verified", text)

    def _chosen(self) -> Weights:
        """The saved weights where they are what was asked for, otherwise the masters in the shards."""
        if self._saved is not None and self._request.trained_dtype in (self._request.dtype, "fp32"):
            return self._saved
        if not has_shards(self._folder):
            raise Refusal([self._without_masters()])
        return MasterWeights(self._folder)

    def _without_masters(self) -> Problem:
        folder, trained = self._folder, self._request.trained_dtype
        if self._saved is None:
            return Problem("RUN", str(folder), "it has neither saved weights nor shards with them")
        reason = f"{folder.name} has the weights in {trained} alone, not the fp32 masters"
        fix = f"--dtype {trained}, or --checkpoint N of a checkpoint with shards of stage 1 to 3"
        return Problem("--dtype", self._request.dtype, reason, trained, fix)


def _entries(source: Weights, dtype: str) -> list[Entry]:
    return [
        Entry(name, shape, exported_dtype(source.dtype(name), dtype)) for name, shape in source.shapes.items()
    ]


def _size(count: int) -> str:
    return naturalsize(count, binary=True)
