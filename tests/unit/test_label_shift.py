"""Which causal models shift their labels, as read from the source, is what the models do."""

from typing import Any

import pytest

from zpipe.facts.architecture import architecture, causal_types

COMMON = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
DECODER = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
SIZES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "gpt2", "bloom", "gpt_neox"), COMMON),
    "opt": {**COMMON, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "roberta": {**COMMON, "is_decoder": True},
    **dict.fromkeys(("bart", "trocr", "marian"), DECODER),
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
    "xlm": {"emb_dim": 16, "n_layers": 1, "n_heads": 2},
}


@pytest.mark.parametrize("kind", SIZES)
def test_reading_the_source_tells_whether_labels_are_shifted(kind: str) -> None:
    known = architecture(kind)
    assert known is not None
    assert known.shifts_labels(causal_types()[kind]) == _loss_is_shifted(kind)


def _loss_is_shifted(kind: str) -> bool:
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=40, pad_token_id=0, **SIZES[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(5, 40, (2, 12))
    with torch.no_grad():
        output = model(input_ids=ids, labels=ids)
    rows = output.logits[:, :-1].reshape(-1, output.logits.shape[-1])
    return bool(torch.isclose(output.loss, cross_entropy(rows, ids[:, 1:].reshape(-1)), atol=1e-4))
