"""Activation memory of one layer on a GPU beside the formulas of zpipe/memory/activations.py.

python -m benchmarks.layer_activations [liger] prints bytes per token: kept, forward and backward transient,
each measured and predicted. Gradients of parameters are freed as they come, and the largest of them is in the
measured transient of the backward pass. Liger changes transformers, so it takes a process of its own.
"""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from zpipe.facts.decoder import decoder_of
from zpipe.facts.liger import liger_settings
from zpipe.memory.activations import default_attention, layer_activations

BATCH, SEQUENCE = 4, 2048
TOKENS = BATCH * SEQUENCE
SIZES: dict[str, Any] = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": SEQUENCE,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2}
MOE = {**EXPERTS, "moe_intermediate_size": 768, "shared_expert_intermediate_size": 1024}
KINDS: dict[str, dict[str, Any]] = {
    **{kind: {"head_dim": 64} for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")},
    "gemma2": {"head_dim": 64},
    **{kind: {} for kind in ("phi", "phi3", "gpt2", "gpt_neox")},
    "mixtral": EXPERTS,
    "qwen2_moe": MOE,
    "qwen3_moe": MOE,
}


@dataclass
class Passes:
    """Allocated bytes when a pass through the layer begins and ends, and at most."""

    forward_begin: int = 0
    forward_most: int = 0
    after: int = 0
    backward_begin: int = 0
    backward_most: int = 0


def main() -> None:
    liger = sys.argv[1:] == ["liger"]
    for kind, more in KINDS.items():
        if liger and kind not in liger_settings():
            continue
        for intermediate in (1536, 4096):
            config = {"model_type": kind, **SIZES, "intermediate_size": intermediate, **more}
            if kind == "gpt2":
                config["n_inner"] = intermediate
            attentions = {default_attention(_decoder(config)), "eager"}
            for attention in sorted(attentions) if not liger else [default_attention(_decoder(config))]:
                _print(config, attention, liger)


def _decoder(config: dict[str, Any]) -> Any:
    return decoder_of({**config, "num_hidden_layers": 4})


def _print(config: dict[str, Any], attention: str, liger: bool) -> None:
    formula = layer_activations(_decoder(config), attention=attention, liger=liger, sequence=SEQUENCE)
    measured = [each / TOKENS for each in _measure(config, attention, liger)]
    predicted = (formula.kept, formula.forward_transient, formula.backward_transient)
    pairs = "  ".join(f"{a:8.0f} {b:8d}" for a, b in zip(measured, predicted, strict=True))
    sys.stdout.write(f"{config['model_type']:12} {config['intermediate_size']} {attention:6} {pairs}\n")
    sys.stdout.flush()


def _measure(config: dict[str, Any], attention: str, liger: bool) -> tuple[int, int, int]:
    if liger:
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel

        _apply_liger_kernel(config["model_type"])
    parsed = AutoConfig.for_model(**config, num_hidden_layers=4, use_cache=False)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(
            parsed, attn_implementation=attention, dtype=torch.bfloat16
        ).train()
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda each: setattr(each, "grad", None))
    layers = next(
        each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == 4
    )
    passes = Passes()
    _watch(layers, passes)
    ids = torch.randint(0, 512, (BATCH, SEQUENCE), device="cuda")
    for _ in range(2):  # the first pass allocates workspaces
        model(input_ids=ids, labels=ids).loss.backward()
    kept = passes.after - passes.forward_begin
    return (
        kept,
        passes.forward_most - passes.forward_begin - kept,
        passes.backward_most - passes.backward_begin,
    )


def _watch(layers: torch.nn.ModuleList, passes: Passes) -> None:
    """Follows the second layer; what it keeps is the difference between the beginnings of two layers."""

    def enter(_: Any, inputs: Any) -> None:
        passes.forward_begin = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        inputs[0].register_hook(lambda _: end_backward())

    def leave(_: Any, inputs: Any, output: Any) -> None:
        passes.forward_most = torch.cuda.max_memory_allocated()
        (output[0] if isinstance(output, tuple) else output).register_hook(lambda _: begin_backward())

    def begin_backward() -> None:
        passes.backward_begin = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    def end_backward() -> None:
        passes.backward_most = torch.cuda.max_memory_allocated()

    layers[1].register_forward_pre_hook(enter)
    layers[1].register_forward_hook(leave)
    layers[2].register_forward_pre_hook(
        lambda _, inputs: setattr(passes, "after", torch.cuda.memory_allocated())
    )


if __name__ == "__main__":
    main()
