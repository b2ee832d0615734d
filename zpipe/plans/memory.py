"""What a run is predicted to need: GPU memory, host memory and disk, as tables of named terms that add up."""

from typing import Literal

from zpipe.schema.base import Group

Resource = Literal["GPU", "host", "disk"]
Verdict = Literal["fits", "tight", "does not fit"]
"""Tight: it fits or not within the error of the prediction."""

CHECKPOINTS = "checkpoints"
"""The term of a disk that is not for swap files."""


class Term(Group):
    """One part of a prediction."""

    name: str
    bytes: int
    formula: str
    """With the numbers of this plan: `8 B x 1,235,814,400 / 2 ranks`."""
    source: str
    """The upstream file that allocates it, or `measured`."""


class Table(Group):
    """Terms that are in memory at the same time."""

    terms: list[Term] = []

    @property
    def total(self) -> int:
        """Bytes of all terms."""
        return sum(term.bytes for term in self.terms)


class GpuMemory(Group):
    """The fullest GPU at its peak."""

    phase: str
    """The part of a step that has the peak, such as `backward`."""
    allocated: Table
    """Tensors: torch.cuda.max_memory_allocated."""
    cache: Table
    """What PyTorch's allocator holds beyond the tensors, up to torch.cuda.max_memory_reserved."""
    context: Table
    """Outside PyTorch's allocator: the CUDA context, NCCL."""
    margin: float
    """How much more than predicted such runs used at most, relative: 0.02 is two percent."""

    @property
    def reserved(self) -> int:
        """Predicted torch.cuda.max_memory_reserved."""
        return self.allocated.total + self.cache.total

    @property
    def used(self) -> int:
        """What the GPU must have free."""
        return self.reserved + self.context.total


class HostMemory(Group):
    """Resident memory of the workers, without the page cache."""

    rank: Table
    """One rank, at its peak."""
    phase: str
    ranks: int
    """Of one node."""
    shared: Table = Table()
    """Once for each node."""

    @property
    def node(self) -> int:
        """Bytes of all ranks of one node."""
        return self.rank.total * self.ranks + self.shared.total


class MemoryPrediction(Group):
    """Of one plan. Null where nothing can be said, such as for a model that was not downloaded yet."""

    gpu: GpuMemory | None
    """Null without a GPU."""
    host: HostMemory | None
    disk: Table = Table()
    """Swap files, and checkpoints, which may lie on another disk."""
    band: float
    """The relative error that was measured for models of this kind: 0.05 is plus or minus five percent."""
    is_generic: bool = False
    """Whether the architecture has no formulas of its own, and a rougher walk over its sizes was used."""

    def margin_of(self, resource: Resource) -> float:
        """How much more than predicted may be needed, relative."""
        return self.gpu.margin if resource == "GPU" and self.gpu is not None else self.band

    def error_of(self, resource: Resource) -> str:
        """The error in words: `±5%`, or `-5% to +2%` where less is needed rather than more."""
        margin = self.margin_of(resource)
        return f"±{self.band:.0%}" if margin == self.band else f"-{self.band:.0%} to +{margin:.0%}"

    @property
    def swap_files(self) -> Table:
        """What the limit of the disk is for: checkpoints have rules of their own."""
        return Table(terms=[term for term in self.disk.terms if term.name != CHECKPOINTS])

    @property
    def checkpoints(self) -> Table:
        return Table(terms=[term for term in self.disk.terms if term.name == CHECKPOINTS])


class Fit(Group):
    """A prediction against what there is of one resource. Bytes."""

    resource: Resource
    used: int
    """Of the fullest GPU; of all ranks of one node."""
    limit: int
    held: int = 0
    """By other processes, which the limit leaves out."""
    verdict: Verdict
