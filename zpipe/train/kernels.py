"""What PyTorch compiles, and which attention kernel it may run, as the plan says."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

from zpipe.plans.plan import Plan

SDPA_BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def attention_kernel(plan: Plan) -> AbstractContextManager[None]:
    """Within it, PyTorch's attention runs the kernel of `kernels.sdpa_backend` or raises RuntimeError."""
    chosen = plan.experiment.kernels.sdpa_backend
    return nullcontext() if chosen == "auto" else sdpa_kernel(SDPA_BACKENDS[chosen])


def compile_regions(trainer: Any, plan: Plan) -> None:
    """Lets accelerate compile each layer on its own, or the whole engine. Call it before training.

    Not through ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION: `accelerate launch` replaces that variable.
    """
    plugin = trainer.accelerator.state.dynamo_plugin
    plugin.use_regional_compilation = bool(plan.experiment.compile.regional)


def is_compiled_in_regions(module: Any) -> bool:
    """Whether modules inside the model were compiled in place, each on its own."""
    inner = (each for each in module.modules() if each is not module)
    return any(each._compiled_call_impl is not None for each in inner)
