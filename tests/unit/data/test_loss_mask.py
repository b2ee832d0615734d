"""The loss mask with tokenizers that merge characters, or put a symbol before every text."""

from typing import Any

import pytest
import tokenizers
import transformers

from tests.support.training_data import CONVERSATION, document, trained_ids
from zpipe.train.formats import IGNORED
from zpipe.train.loss_mask import Span, encode_spans
from zpipe.train.tokens import Encoder

LETTERS = "▁ \nabcdefghijklmnopqrstuvwxyz0123456789+=<>|_/"
MERGES = [("▁", "s"), ("e", "e"), ("▁", "▁"), ("4", "2")]


def prefixing() -> Any:
    """A fast tokenizer that puts ▁ before every text, like that of Llama 2."""
    return _fast(
        tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        )
    )


def merging() -> Any:
    """A fast tokenizer that merges a space with the next letter, and puts nothing before a text."""
    return _fast(tokenizers.normalizers.Replace(" ", "▁"))


def _fast(normalizer: Any) -> Any:
    words = ["<unk>", "</s>", *LETTERS, *(a + b for a, b in MERGES)]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, MERGES, unk_token="<unk>"))  # noqa: S106
    backend.normalizer = normalizer
    special = {"eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(Encoder.from_tokenizer(tokenizer)([text])[0].tolist())


def tokens_of(tokenizer: Any, ids: Any) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens([int(each) for each in ids]))


def encoded(rows: list[list[Span]], tokenizer: Any) -> list[list[tuple[list[int], bool]]]:
    encoder = Encoder.from_tokenizer(tokenizer)
    return [[(ids.tolist(), in_loss) for ids, in_loss in row] for row in encode_spans(rows, encoder)]


def test_a_completion_is_encoded_as_a_continuation() -> None:
    tokenizer = prefixing()
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"))
    assert tokens_of(tokenizer, found.ids) == ["▁", "2", "+", "2", "=", "4", "</s>"]
    assert tokens_of(tokenizer, trained_ids(found)) == ["4", "</s>"]


def test_every_reply_follows_the_ids_of_its_prompt_in_inference() -> None:
    tokenizer = prefixing()
    encoder = Encoder.from_tokenizer(tokenizer)
    found = document(tokenizer, "messages", (CONVERSATION,))
    # One before the whole text, and the space in "see you".
    assert "".join(tokens_of(tokenizer, found.ids)).count("▁") == 2
    for reply in (1, 3):
        prompt = ids_of(tokenizer, encoder.render(CONVERSATION[:reply], open_reply=True))
        assert found.ids[: len(prompt)].tolist() == prompt
        assert found.labels[len(prompt) - 1] == IGNORED
        assert found.labels[len(prompt)] != IGNORED


@pytest.mark.parametrize("make", [prefixing, merging])
def test_a_completion_is_not_merged_with_its_prompt(make: Any) -> None:
    tokenizer = make()
    found = document(tokenizer, "prompt_completion", ("say ", "see"))
    prompt = ids_of(tokenizer, "say ")
    assert found.ids[: len(prompt)].tolist() == prompt
    assert tokens_of(tokenizer, trained_ids(found)) == ["s", "ee", "</s>"]


def test_slow_and_fast_tokenizers_agree() -> None:
    fast = prefixing()

    class Slow:
        is_fast = False
        bos_token_id, eos_token_id = None, 1

        def __call__(self, texts: Any, **options: Any) -> Any:
            return fast(texts, **options)

    rows = [[("2+2=", False), ("4", True)], [("a b", False), (" c", True), ("d e", False)]]
    assert encoded(rows, fast) == encoded(rows, Slow())
