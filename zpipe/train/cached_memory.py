"""Returns freed GPU memory to the driver where blocks of other sizes are needed from then on."""

import torch


def release_cached_memory() -> None:
    """The engine's start, and the first step with its new optimizer states, leave blocks of sizes that no later
    step uses. They would stay reserved. Does nothing without CUDA; call it a few times in a run, not each step.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
