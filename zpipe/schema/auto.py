"""What the plan chooses itself: GROUP=auto."""

from zpipe.schema.base import Group


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
