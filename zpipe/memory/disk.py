"""What the files of a run take on the disks of node 0: swap files and checkpoints."""

from zpipe.facts.facts import Facts
from zpipe.memory.checkpoint_space import checkpoint_space
from zpipe.memory.sizes import Sizes
from zpipe.plans.memory import CHECKPOINTS, Table, Term
from zpipe.schema.experiment import Experiment


def disk_table(experiment: Experiment, facts: Facts, sizes: Sizes) -> Table:
    """Of all ranks of one node. Checkpoints of an unknown number or size are left out."""
    return Table(terms=[*_swapped(facts, sizes), *_checkpoints(experiment, facts)])


def swapped_bytes(facts: Facts, sizes: Sizes) -> int:
    """Bytes of the swap files of one node."""
    return sum(term.bytes for term in _swapped(facts, sizes))


def _swapped(facts: Facts, sizes: Sizes) -> list[Term]:
    terms, elements = [], sizes.partition * facts.nproc_per_node
    if sizes.optimizer_device == "nvme":
        # Master weight, gradient and states of each parameter (swap_tensor/optimizer_utils.py).
        bytes_ = 2 * sizes.master + sizes.state
        terms.append(_term("swapped optimizer states", bytes_, elements, "optimizer_utils.py"))
    if sizes.parameter_device == "nvme":
        terms.append(_term("swapped parameters", sizes.element, elements, "partitioned_param_swapper.py"))
    return terms


def _term(name: str, bytes_per_element: int, elements: int, file: str) -> Term:
    formula = f"{bytes_per_element} B x {elements:,}"
    return Term(name=name, bytes=bytes_per_element * elements, formula=formula, source=f"swap_tensor/{file}")


def _checkpoints(experiment: Experiment, facts: Facts) -> list[Term]:
    space = checkpoint_space(experiment, facts)
    if space is None or space.bytes is None or space.at_once is None:
        return []
    formula = f"{space.at_once} x {space.bytes:,} B"
    source = "zpipe/memory/checkpoint_size.py"
    return [Term(name=CHECKPOINTS, bytes=space.bytes * space.at_once, formula=formula, source=source)]
