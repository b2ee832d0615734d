"""GPU memory outside PyTorch's allocator: the CUDA context, kernels and NCCL, measured on H200."""

from zpipe.plans.memory import Table, Term

_MIB = 2**20
_CONTEXT = 527 * _MIB
_KERNELS = 798 * _MIB
"""Kernels, libraries, and NCCL's group of all ranks."""
_SECOND_GROUP = 390 * _MIB
"""Below stage 3 NCCL initializes a further group."""
_CHANNELS = 430 * _MIB
"""NCCL's buffers, once there are other ranks."""


def context_table(stage: int, ranks: int) -> Table:
    """Of one GPU."""
    terms = [
        ("CUDA context", _CONTEXT, "what the driver allocates for a process"),
        ("kernels and libraries", _KERNELS, "loaded on first use"),
        ("NCCL group", _SECOND_GROUP if stage < 3 else 0, "below stage 3"),
        ("NCCL buffers", _CHANNELS if ranks > 1 else 0, "with several ranks"),
    ]
    return Table(
        terms=[
            Term(name=name, bytes=size, formula=formula, source="measured")
            for name, size, formula in terms
            if size
        ]
    )
