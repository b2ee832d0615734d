"""Each architecture has a prediction of its GPU memory."""

from typing import Any

import pytest

from tests.support.planning import plan_of
from zpipe.facts.model_types import DEFAULTS
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.plans.memory import GpuMemory

GPU = Gpu(name="NVIDIA H100 80GB HBM3", memory=80 * 2**30, compute_capability=(9, 0))
SIZES = (
    "{hidden_size:256,intermediate_size:512,num_hidden_layers:4,num_attention_heads:8,vocab_size:512,"
    "pad_token_id:null,bos_token_id:null,eos_token_id:null,model_type:"
)
GPT2 = "{n_embd:256,n_layer:4,n_head:8,vocab_size:512,bos_token_id:null,eos_token_id:null,model_type:"


def predicted(kind: str, *overrides: str) -> GpuMemory:
    config = GPT2 if kind == "gpt2" else SIZES
    plan: Any = plan_of(
        "model.name_or_path=null",
        f"model.config={config}{kind}}}",
        "data.max_length=1024",
        *overrides,
        hardware=Hardware(gpus=(GPU,), cores=8, memory=2**40),
    )
    assert plan.memory is not None
    assert plan.memory.gpu is not None
    gpu: GpuMemory = plan.memory.gpu
    return gpu


@pytest.mark.parametrize("kind", DEFAULTS)
def test_activations_grow_with_the_micro_batch(kind: str) -> None:
    small, large = (predicted(kind, f"batch.per_device_train_batch_size={count}") for count in (8, 16))
    assert 0 < small.allocated.total < large.allocated.total
    terms = {term.name: term.bytes for term in large.allocated.terms}
    assert terms["activations"] > 0


def test_eager_attention_needs_more() -> None:
    batch = "batch.per_device_train_batch_size=8"
    eager, default = predicted("llama", batch, "model.attn_implementation=eager"), predicted("llama", batch)
    assert eager.allocated.total > default.allocated.total


def test_padded_batches_need_more() -> None:
    batch = "batch.per_device_train_batch_size=8"
    padded, packed = predicted("llama", batch, "data.packing=none"), predicted("llama", batch)
    assert padded.allocated.total > packed.allocated.total
