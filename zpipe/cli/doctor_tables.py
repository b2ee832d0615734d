"""What `zpipe doctor` prints: the machines, what the ranks measured, and what is wrong."""

from collections.abc import Iterator

from zpipe.exits import Exit
from zpipe.runfolder.preflight import SIZES, NodeReport, RankReport
from zpipe.running.leader import CLOCK_SECONDS, clock_text
from zpipe.running.preflight import Findings
from zpipe.terminal.console import print_problems, print_table, say, show
from zpipe.terminal.units import size

COLUMNS = (
    *("node", "host", "python", "torch", "deepspeed", "GPUs", "cores", "memory"),
    *("run folder", "NVMe", "checkpoints", "clock", "all-reduce"),
)


def show_findings(findings: Findings) -> None:
    """The tables on stdout, warnings and problems on stderr."""
    if findings.nodes:
        _print_nodes([_row(each, findings) for each in findings.nodes])
    for line in _measured(findings.ranks):
        show(line)
    for line in _warnings(findings):
        say(f"warning: {line}")
    if findings.problems:
        lacking = findings.exit_code == Exit.ENVIRONMENT
        print_problems(findings.problems, "The run would not work" if lacking else "")
    elif findings.nodes:
        show("all checks passed")


def _print_nodes(rows: list[tuple[str, ...]]) -> None:
    """Without the columns in which nothing is known."""
    filled = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
    print_table([COLUMNS[index] for index in filled], ([row[index] for index in filled] for row in rows))


def _row(node: NodeReport, findings: Findings) -> tuple[str, ...]:
    versions = [node.versions.get(name, "?") for name in ("torch", "deepspeed")]
    clock = findings.clocks.get(node.node)
    return (
        *(str(node.node), node.host, node.python, *versions, _gpus(node.gpus)),
        *(str(node.cores), size(node.memory), f"{size(node.run_disk_free)} free"),
        *(
            "" if free is None else f"{size(free)} free"
            for free in (node.swap_disk_free, node.checkpoint_disk_free)
        ),
        "" if clock is None else f"{clock:+.3f} s",
        _bus_of(node.node, findings.ranks),
    )


def _bus_of(node: int, ranks: list[RankReport]) -> str:
    """Of the slowest rank of a node, with the most bytes."""
    most = SIZES[-1]
    seconds = _slowest(each for each in ranks if each.node == node).get(most)
    return "" if seconds is None or len(ranks) == 1 else f"{_bus_rate(seconds, most, len(ranks)):.2f} GB/s"


def _gpus(names: list[str]) -> str:
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def _slowest(ranks: Iterator[RankReport]) -> dict[int, float]:
    """Seconds by bytes, of the slowest of these ranks."""
    slowest: dict[int, float] = {}
    for each in ranks:
        for count, seconds in each.seconds.items():
            slowest[count] = max(seconds, slowest.get(count, 0.0))
    return slowest


def _bus_rate(seconds: float, count: int, ranks: int) -> float:
    """GB/s of the slowest link: nccl-tests, doc/PERFORMANCE.md."""
    return count / seconds / 1e9 * 2 * (ranks - 1) / ranks


def _measured(ranks: list[RankReport]) -> Iterator[str]:
    if len(ranks) == 1:  # it sends nothing
        return
    for count, seconds in _slowest(iter(ranks)).items():
        rate, bus = count / seconds / 1e9, _bus_rate(seconds, count, len(ranks))
        rates = f"{rate:.2f} GB/s, bus {bus:.2f} GB/s"
        yield f"all-reduce of {size(count)} over {len(ranks)} ranks: {seconds * 1e3:.2f} ms, {rates}"


def _warnings(findings: Findings) -> Iterator[str]:
    hosts = {node.node: node.host for node in findings.nodes}
    for node, ahead in findings.clocks.items():
        if ahead is not None and abs(ahead) > CLOCK_SECONDS:
            yield f"the clock of node {node} ({hosts.get(node, '?')}) is {clock_text(ahead)}"
