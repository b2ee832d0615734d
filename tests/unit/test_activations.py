"""Activation memory of one layer: sums that were seen on GPUs, and what changes them."""

from dataclasses import replace

import pytest

from zpipe.facts.decoder import Decoder, decoder_of
from zpipe.memory.activations import (
    LayerActivations,
    default_attention,
    extra_logits,
    final_norm_bytes,
    layer_activations,
    without_experts,
)

H, F, HEADS, GROUPS, DIM = 2048, 8192, 32, 8, 64
Q, KV = HEADS * DIM, GROUPS * DIM


def decoder(kind: str = "llama", **more: object) -> Decoder:
    sizes = {"hidden_size": H, "intermediate_size": F, "num_hidden_layers": 16, "vocab_size": 1000}
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": GROUPS}
    found = decoder_of({**sizes, **heads, "model_type": kind, **more})
    assert found is not None
    return found


def activations(
    of: Decoder, attention: str = "sdpa", liger: bool = False, sequence: int = 1024, masked: bool = False
) -> LayerActivations:
    return layer_activations(of, attention=attention, liger=liger, sequence=sequence, masked=masked)


def test_llama_keeps_what_allocator_traces_of_a_gpu_show() -> None:
    statistics = 2 * 4
    attention = 4 * Q + 4 * KV + 4 * HEADS
    assert activations(decoder()).kept == 16 * H + attention + 8 * F + statistics
    assert activations(decoder(), liger=True).kept == 8 * H + attention + 6 * F + statistics


def test_last_norm_keeps_its_input_and_output() -> None:
    assert final_norm_bytes(decoder(), liger=False) == 8 * H + 4
    assert final_norm_bytes(decoder(), liger=True) == 4 * H + 4
    assert final_norm_bytes(decoder("gpt2"), liger=False, element_bytes=4) == 8 * H + 8


def test_flash_attention_keeps_the_same_at_every_length() -> None:
    kept = {
        activations(decoder(), attention="flash_attention_2", sequence=each).kept for each in (1, 99, 4096)
    }
    assert kept == {activations(decoder()).kept}


def test_tensors_are_named_in_the_order_of_allocation() -> None:
    names = [name for name, _ in activations(decoder(), liger=True).saved]
    assert names == [
        *("input_layernorm.input", "input_layernorm.statistics", "input_layernorm.output"),
        *("query", "key", "value", "attention.output", "attention.logsumexp"),
        "post_attention_layernorm.input",
        "post_attention_layernorm.statistics",
        "post_attention_layernorm.output",
        *("mlp.gate", "mlp.up", "mlp.product"),
    ]


def test_eager_attention_grows_with_the_sequence() -> None:
    short, long = (activations(decoder(), attention="eager", sequence=each) for each in (1024, 4096))
    assert long.kept - short.kept == (4 + 2) * HEADS * (4096 - 1024)
    assert long.forward_transient > short.forward_transient
    assert long.backward_transient > short.backward_transient


def test_mask_repeats_keys_and_values_and_is_kept() -> None:
    more = activations(decoder(), masked=True).kept - activations(decoder()).kept
    assert more == 2 * (2 * Q - 2 * KV) + 2 * 1024
    windowed = decoder("mistral", sliding_window=1024)
    assert activations(windowed).kept == activations(windowed, masked=True).kept
    assert activations(windowed, sequence=1023).kept == activations(decoder()).kept


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "phi3", "mixtral"])
def test_liger_keeps_less(kind: str) -> None:
    assert activations(decoder(kind), liger=True).kept < activations(decoder(kind)).kept


def test_experts_of_a_token_count_each() -> None:
    two, four = (
        activations(decoder("qwen3_moe", num_experts_per_tok=count, moe_intermediate_size=768)).kept
        for count in (2, 4)
    )
    indices_and_weight = 8 + 3 * 8 + 2
    assert four - two == 2 * (2 * 2 * H + 4 * 2 * 768 + indices_and_weight)


def test_layers_without_experts_have_an_mlp() -> None:
    moe = decoder("qwen3_moe", decoder_sparse_step=2)
    dense = replace(decoder("qwen3"), key_value_heads=moe.key_value_heads, head_dim=moe.head_dim)
    assert activations(without_experts(moe)).kept == activations(dense).kept


def test_dropout_keeps_its_masks() -> None:
    dropped = decoder("gpt2", n_embd=H, n_head=HEADS, n_layer=2)
    plain = replace(dropped, residual_dropout=False, attention_dropout=False)
    assert activations(dropped).kept - activations(plain).kept == 2 * H
    eager = activations(dropped, attention="eager").kept - activations(plain, attention="eager").kept
    assert eager == 2 * H + (1 + 2) * HEADS * 1024


def test_gemma2_has_eager_attention_and_soft_caps() -> None:
    assert default_attention(decoder("gemma2")) == "eager"
    assert default_attention(decoder("gemma3_text")) == "sdpa"
    assert [extra_logits(decoder(kind)) for kind in ("gemma2", "gemma3_text", "llama")] == [1, 0, 0]


def test_unknown_types_are_estimated_from_their_sizes() -> None:
    assert activations(decoder("olmo", rms_norm_eps=1e-6)).kept == activations(decoder()).kept
