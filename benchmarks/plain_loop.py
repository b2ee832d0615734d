"""The fastest plain PyTorch loop that we know for one GPU, to compare zpipe's `auto` with.

    python -m benchmarks.plain_loop MICRO_BATCH [MICRO_BATCH ...] [--cudnn] [--profile TRACE.json.gz]

No DeepSpeed and no Trainer: compiled decoder layers, Liger's fused linear cross-entropy, fused AdamW on fp32
master weights as in mixed-precision training, clipping without waiting for the device, data that is on the
GPU. The model is Llama 3.2 1B with random weights. Prints tokens per second for each micro-batch.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
from torch.profiler import record_function
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from benchmarks.kernel_times import StepProfiler

LENGTH, WARM_UP, STEPS = 2048, 6, 12


def load_model() -> Any:
    text = Path("conf/model/llama3_1b.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)["config"]
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    set_seed(42)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.config.use_cache = False
    for layer in model.model.layers:
        layer.compile()
    return model


class MasterWeights:
    """Fused AdamW on fp32 copies of the parameters."""

    def __init__(self, model: Any) -> None:
        self.parameters = list(model.parameters())
        self.masters = [parameter.detach().float() for parameter in self.parameters]
        for master in self.masters:
            master.grad = torch.empty_like(master)
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-5, fused=True, weight_decay=0.0)

    def step(self) -> None:
        gradients = [master.grad for master in self.masters]
        torch._foreach_copy_(gradients, [parameter.grad for parameter in self.parameters])
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        torch._foreach_mul_(gradients, torch.clamp(1.0 / (norm + 1e-6), max=1.0))
        self.optimizer.step()
        torch._foreach_copy_(self.parameters, self.masters)
        for parameter in self.parameters:
            parameter.grad = None


def labels_of(tokens: torch.Tensor) -> torch.Tensor:
    """The next tokens; the last one of a sequence has none."""
    return torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100).view(-1)


def train(model: Any, optimizer: MasterWeights, micro_batch: int, trace: Path | None) -> float:
    """Tokens per second."""
    profiler = StepProfiler(trace) if trace else None
    loss_of = LigerFusedLinearCrossEntropyLoss()
    batches = torch.randint(0, 256, (4, micro_batch, LENGTH), device="cuda")
    started = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            torch.cuda.synchronize()
            started = time.perf_counter()
        if profiler:
            profiler.begin_step()
        tokens = batches[step % len(batches)]
        with record_function("phase forward"):
            hidden = model.model(input_ids=tokens).last_hidden_state
            loss = loss_of(model.lm_head.weight, hidden.view(-1, hidden.shape[-1]), labels_of(tokens))
        with record_function("phase backward"):
            loss.backward()
        with record_function("phase step"), torch.no_grad():
            optimizer.step()
    torch.cuda.synchronize()
    return STEPS * micro_batch * LENGTH / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("micro_batches", type=int, nargs="+")
    parser.add_argument("--cudnn", action="store_true", help="cuDNN's attention instead of FlashAttention 2")
    parser.add_argument("--profile", type=Path, help="a trace of two steps, which makes the run slower")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    if options.cudnn:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
    model = load_model()
    optimizer = MasterWeights(model)
    for micro_batch in options.micro_batches:
        try:
            speed = train(model, optimizer, micro_batch, options.profile)
        except torch.OutOfMemoryError:
            print(f"micro-batch {micro_batch}: out of memory", flush=True)
            break
        print(f"micro-batch {micro_batch}: {speed:,.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
