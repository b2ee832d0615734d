"""Masking under tokenizers that join characters, or put something before every text."""

from typing import Any

import pytest
import tokenizers
import transformers

from tests.unit.test_data import CONVERSATION, document, learned
from zpipe.train.formats import IGNORED
from zpipe.train.loss_mask import encode_spans
from zpipe.train.tokens import Encoder

LETTERS = "▁ \nabcdefghijklmnopqrstuvwxyz0123456789+=<>|_/"
MERGES = [("▁", "s"), ("e", "e"), ("▁", "▁"), ("4", "2")]


def prepending() -> Any:
    """A fast tokenizer that puts ▁ before every text, as Llama 2's does."""
    return _fast(
        tokenizers.normalizers.Sequence(
            [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
        )
    )


def joining() -> Any:
    """A fast tokenizer that joins a space with the letter behind it, and puts nothing before a text."""
    return _fast(tokenizers.normalizers.Replace(" ", "▁"))


def _fast(normalizer: Any) -> Any:
    words = ["<unk>", "</s>", *LETTERS, *(a + b for a, b in MERGES)]
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, MERGES, unk_token="<unk>"))  # noqa: S106
    backend.normalizer = normalizer
    special = {"eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(Encoder.of(tokenizer)([text])[0].tolist())


def words_of(tokenizer: Any, ids: Any) -> str:
    return "".join(tokenizer.convert_ids_to_tokens([int(each) for each in ids]))


def test_a_completion_has_the_ids_that_follow_the_prompt_in_inference() -> None:
    tokenizer = prepending()
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"))
    assert words_of(tokenizer, found.ids) == "▁2+2=4</s>"
    assert words_of(tokenizer, learned(found)) == "4</s>"


def test_before_every_reply_stand_the_ids_of_inference_where_every_text_begins_with_a_mark() -> None:
    tokenizer = prepending()
    encoder = Encoder.of(tokenizer)
    found = document(tokenizer, "messages", (CONVERSATION,))
    assert words_of(tokenizer, found.ids).count("▁") == 2  # the very first, and the one of "see you"
    for reply in (1, 3):
        opened = ids_of(tokenizer, encoder.render(CONVERSATION[:reply], open_reply=True))
        assert found.ids[: len(opened)].tolist() == opened
        assert found.labels[len(opened) - 1] == IGNORED
        assert found.labels[len(opened)] != IGNORED


@pytest.mark.parametrize("make", [prepending, joining])
def test_what_would_be_joined_with_the_end_of_a_prompt_is_learned_apart_from_it(make: Any) -> None:
    tokenizer = make()
    found = document(tokenizer, "prompt_completion", ("say ", "see"))
    prompt = ids_of(tokenizer, "say ")
    assert found.ids[: len(prompt)].tolist() == prompt
    assert tokenizer.convert_ids_to_tokens(learned(found).tolist()) == ["s", "ee", "</s>"]


def test_a_slow_tokenizer_gives_the_same_ids_as_a_fast_one() -> None:
    fast = prepending()

    class Slow:
        is_fast = False
        bos_token_id, eos_token_id = None, 1

        def __call__(self, texts: Any, **options: Any) -> Any:
            return fast(texts, **options)

    rows = [[("2+2=", False), ("4", True)], [("a b", False), (" c", True), ("d e", False)]]
    one, other = encode_spans(rows, Encoder.of(fast)), encode_spans(rows, Encoder.of(Slow()))
    assert [[(ids.tolist(), on) for ids, on in row] for row in one] == [
        [(ids.tolist(), on) for ids, on in row] for row in other
    ]
