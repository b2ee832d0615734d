"""Returns freed GPU memory to the driver where blocks of other sizes are needed from then on."""

import torch


def release_cached_memory() -> None:
    """The start of the engine and the first step leave blocks of sizes that no later step uses.

    They would stay reserved. Does nothing without CUDA. Call it a few times in a run, not in each step.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
