"""What the worker does about kernels: PyTorch's attention, and the layers that it compiles."""

import pytest
import torch

from tests.support.planning import H200, gpus, plan_of
from zpipe.train.kernels import SDPA_BACKENDS, attention_kernel, is_compiled_in_regions

KERNELS = ("cudnn", "flash", "mem_efficient", "math")


def allowed() -> list[str]:
    """The kernels that PyTorch's attention may run now."""
    return [name for name in KERNELS if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()]


@pytest.mark.parametrize("backend", [name for name in SDPA_BACKENDS if name != "efficient"])
def test_only_the_chosen_attention_kernel_may_run(backend: str) -> None:
    before = allowed()
    with attention_kernel(plan_of(f"kernels.sdpa_backend={backend}", hardware=gpus(H200))):
        assert allowed() == [backend]
    assert allowed() == before


def test_pytorch_chooses_the_attention_kernel_by_default() -> None:
    before = allowed()
    with attention_kernel(plan_of(hardware=gpus(H200))):
        assert allowed() == before


def test_a_model_with_a_compiled_layer_is_told_from_one_that_is_compiled_as_a_whole() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert not is_compiled_in_regions(model)
    model.compile(backend="eager")
    assert not is_compiled_in_regions(model)
    model[0].compile(backend="eager")
    assert is_compiled_in_regions(model)
