"""Encoding of text as token ids."""

from typing import Any

import pytest
import tokenizers
import transformers

from tests.support.training_data import EOS, document
from zpipe.train.tokens import SAMPLE, Encoder, expand_home


@pytest.mark.parametrize("text", [SAMPLE, "", "a", "".join(map(chr, range(300)))])
def test_bytes_are_encoded_as_by_byt5(tokenizer: Any, text: str) -> None:
    (ids,) = Encoder.from_tokenizer(tokenizer)([text])
    assert ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_special_tokens_in_a_text_are_encoded_as_bytes(tokenizer: Any) -> None:
    assert EOS not in Encoder.from_tokenizer(tokenizer)(["a</s>b"])[0]


def test_bos_of_the_tokenizer_is_kept() -> None:
    found = document(_word_tokenizer(), "text", ("one two",))
    assert found.ids.tolist() == [0, 3, 4, 1]
    assert (found.labels == found.ids).all()


def _word_tokenizer() -> Any:
    """A fast tokenizer that adds bos."""
    words = {"<s>": 0, "</s>": 1, "<unk>": 2, "one": 3, "two": 4}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_tilde_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert expand_home("~/model") == "/home/somebody/model"
    assert expand_home("org/name") == "org/name"
