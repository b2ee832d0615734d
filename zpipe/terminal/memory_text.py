"""The predicted memory of a plan: one line for its summary, and tables that add up."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from zpipe.memory.upstream_estimate import upstream_estimate
from zpipe.plans.memory import GpuMemory, HostMemory, MemoryPrediction, Resource, Table, Term
from zpipe.plans.plan import Plan

GIB = 2**30
UNKNOWN = "no prediction: the sizes of the model, or of the optimizer's states, are not known here"
COLUMNS = (f"{'GiB':>9}", "formula", "source")


class Line(NamedTuple):
    """A term, or the sum of all terms above it."""

    name: str
    bytes: int
    formula: str = ""
    source: str = ""


class Block(NamedTuple):
    """What is in one kind of memory at the same time."""

    title: str
    lines: list[Line]


def memory_line(plan: Plan) -> str:
    """`GPU 28.5 GiB allocated, 30.1 reserved, 30.9 used of 79.1: fits; host 12.3 GiB of 128.0: fits`."""
    memory = plan.memory
    if memory is None:
        return UNKNOWN
    parts = []
    if memory.gpu is not None:
        gpu = memory.gpu
        figures = (
            f"{gib(gpu.allocated.total)} GiB allocated, {gib(gpu.reserved)} reserved, {gib(gpu.used)} used"
        )
        parts.append(f"GPU {figures}{_of(plan, 'GPU')}")
    if memory.host is not None:
        parts.append(f"host {gib(memory.host.node)} GiB{_of(plan, 'host')}")
    if memory.swap_files.terms:
        parts.append(f"swap files {gib(memory.swap_files.total)} GiB{_of(plan, 'disk')}")
    if memory.checkpoints.terms:
        parts.append(f"checkpoints {gib(memory.checkpoints.total)} GiB")
    return "; ".join(parts)


def blocks(plan: Plan) -> Iterator[Block]:
    """A block for each kind of memory that the plan needs."""
    memory = plan.memory
    if memory is None:
        return
    if memory.gpu is not None:
        yield Block(f"GPU, in {memory.gpu.phase}", _gpu(memory.gpu, _limit(plan, "GPU", memory)))
    if memory.host is not None:
        yield Block(f"host, in {memory.host.phase}", _host(memory.host, _limit(plan, "host", memory)))
    if memory.disk.terms:
        yield Block("disk", _disk(memory, _limit(plan, "disk", memory)))


def cells(line: Line) -> tuple[str, ...]:
    """The line as a row of a table with the columns of its block."""
    return line.name, f"{line.bytes / GIB:>9,.3f}", line.formula, line.source


def estimate_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """What is predicted here beside DeepSpeed's estimate; empty where it has none."""
    estimate, memory = upstream_estimate(plan), plan.memory
    if estimate is None:
        return []
    gpu = memory.gpu.allocated.total if memory is not None and memory.gpu is not None else None
    host = memory.host.node if memory is not None and memory.host is not None else None
    rows = [] if gpu is None else [("each GPU: allocated", gib(gpu), gib(estimate.gpu))]
    return [*rows, ("host: one node", gib(host), gib(estimate.host))]


def memory_data(plan: Plan) -> dict[str, Any]:
    """The prediction with its sums, what there is, and DeepSpeed's estimate, for programs. Bytes."""
    memory, estimate = plan.memory, upstream_estimate(plan)
    return {
        "prediction": None if memory is None else memory.model_dump(mode="json"),
        "totals": None if memory is None else _totals(memory),
        "fits": [fit.model_dump(mode="json") for fit in plan.memory_fits],
        "deepspeed": None if estimate is None else estimate._asdict(),
    }


def gib(count: int | None) -> str:
    """Bytes in GiB with one decimal."""
    return "?" if count is None else f"{count / GIB:,.1f}"


def _totals(memory: MemoryPrediction) -> dict[str, dict[str, int]]:
    swap_files, checkpoints = memory.swap_files.total, memory.checkpoints.total
    totals = {"disk": {"swap_files": swap_files, "checkpoints": checkpoints, "total": memory.disk.total}}
    if memory.gpu is not None:
        gpu = memory.gpu
        totals["gpu"] = {"allocated": gpu.allocated.total, "reserved": gpu.reserved, "used": gpu.used}
    if memory.host is not None:
        totals["host"] = {"rank": memory.host.rank.total, "node": memory.host.node}
    return totals


def _gpu(memory: GpuMemory, limit: str) -> list[Line]:
    return [
        *_lines(memory.allocated),
        Line("allocated", memory.allocated.total),
        *_lines(memory.cache),
        Line("reserved", memory.reserved),
        *_lines(memory.context),
        Line("used", memory.used, limit),
    ]


def _host(memory: HostMemory, limit: str) -> list[Line]:
    others = memory.ranks - 1
    return [
        *_lines(memory.rank),
        Line("one rank", memory.rank.total),
        *([Line("other ranks", others * memory.rank.total, f"{others} x one rank")] if others else []),
        *_lines(memory.shared),
        Line("node", memory.node, limit),
    ]


def _disk(memory: MemoryPrediction, limit: str) -> list[Line]:
    """The limit is that of the swap files."""
    swapped = memory.swap_files
    return [
        *_lines(swapped),
        *([Line("swap files", swapped.total, limit)] if swapped.terms else []),
        *_lines(memory.checkpoints),
        Line("total", memory.disk.total),
    ]


def _lines(table: Table) -> list[Line]:
    return [_line(term) for term in table.terms]


def _line(term: Term) -> Line:
    return Line(f"  {term.name}", term.bytes, term.formula, term.source)


def _of(plan: Plan, resource: Resource) -> str:
    fit = plan.fit_of(resource)
    return "" if fit is None else f" of {gib(fit.limit)}: {fit.verdict}"


def _limit(plan: Plan, resource: Resource, memory: MemoryPrediction) -> str:
    fit, error = plan.fit_of(resource), memory.error_of(resource)
    if fit is None:
        return f"{error}; the limit is not known here"
    held = f", beside {gib(fit.held)} of other processes" if fit.held else ""
    return f"{error}, of {gib(fit.limit)} GiB{held}: {fit.verdict}"
