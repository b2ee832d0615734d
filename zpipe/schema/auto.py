"""What the plan chooses itself: GROUP=auto."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group

MOST_PROBES = 8


class Automatic(Group):
    """Which groups the plan chooses for the machine. Their options `auto` set these keys.

    With any of them, Liger's kernels are used where they can be, unless `kernels` says something else.

    A key of such a group that is set by an override or a recipe is kept, and restricts the choice. The plan
    has the chosen values, and these keys are false.
    """

    stage: bool = False
    """Choose the ZeRO stage."""
    offload: bool = False
    """Choose where optimizer states and parameters are kept."""
    batch: bool = False
    """Choose the micro-batch, and the accumulation if the global batch is set."""
    activation_checkpointing: bool = False
    """Choose whether activations are recomputed."""
    compile: bool = False
    """Choose whether PyTorch compiles each layer."""
    measure: bool | Literal["again"] | None = None
    """Before the run, measure the best combinations in short runs that are not known yet; again: also those
    that are. null: if `probes` is set."""
    probes: Annotated[Count, Field(ge=0, le=MOST_PROBES)] | None = None
    """How many combinations are measured; null with `measure` means 3 on a GPU, none on a CPU."""
