"""Documents of each layout: their ids, and the labels that count in the loss."""

from pathlib import Path
from typing import Any

from tests.support.training_data import (
    CONVERSATION,
    EOS,
    decoded,
    document,
    packed,
    refusal_of,
    trained_ids,
    write_jsonl,
)
from zpipe.train.formats import IGNORED
from zpipe.train.tokens import CHAT_TEMPLATE, Encoder


def test_a_text_is_trained_on_in_full(tokenizer: Any) -> None:
    found = document(tokenizer, "text", ("hello",))
    assert decoded(found.ids) == "hello"
    assert (found.labels == found.ids).all()


def test_a_text_ends_with_eos(tokenizer: Any) -> None:
    assert document(tokenizer, "text", ("hello",)).ids[-1] == EOS


def test_rows_without_text_are_skipped(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": None}, {"text": "1234567"}, {"text": ""}])
    rows = packed(tokenizer, path=path, max_length=8)
    assert decoded(rows["input_ids"].ravel()) == "1234567"


def test_only_the_completion_and_eos_of_a_pair_are_trained_on(tokenizer: Any) -> None:
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"))
    assert decoded(found.ids) == "2+2=4"
    assert trained_ids(found).tolist() == [ord("4") + 3, EOS]


def test_completion_only_false_trains_on_the_prompt(tokenizer: Any) -> None:
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"), completion_only=False)
    assert (found.labels == found.ids).all()


def test_only_assistant_messages_are_trained_on(tokenizer: Any) -> None:
    found = document(tokenizer, "messages", (CONVERSATION,))
    assert decoded(trained_ids(found)) == "hello<|im_end|>\nsee you<|im_end|>\n"
    assert decoded(found.ids).startswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_a_reply_follows_the_ids_of_the_prompt_in_inference(tokenizer: Any) -> None:
    found = document(tokenizer, "messages", (CONVERSATION,))
    encoder = Encoder.from_tokenizer(tokenizer)
    prompt = encoder([encoder.render(CONVERSATION[:1], open_reply=True)])[0]
    assert found.ids[: len(prompt)].tolist() == prompt.tolist()
    assert (found.labels[: len(prompt)] == IGNORED).all()
    assert found.labels[len(prompt)] != IGNORED


def test_a_template_may_change_earlier_turns(tokenizer: Any) -> None:
    """Qwen3's template renders the thinking of the last reply only."""
    eos = tokenizer.eos_token
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "message['content'] + '<|im_end|>\n'",
        "('<think/>' if message['role'] == 'assistant' and loop.last else '')"
        f" + message['content'] + '{eos}\n'",
    )
    found = document(tokenizer, "messages", (CONVERSATION,))
    assert decoded(trained_ids(found)) == "hello</s><think/>see you</s>\n"


def test_messages_may_be_stored_as_one_list_per_key(tokenizer: Any) -> None:
    by_key = {name: [message[name] for message in CONVERSATION] for name in ("role", "content")}
    expected = document(tokenizer, "messages", (CONVERSATION,))
    assert document(tokenizer, "messages", (by_key,)).ids.tolist() == expected.ids.tolist()


def test_unusable_columns_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}])
    problem = refusal_of(tokenizer, path=path)
    assert problem.key == "data.path"
    assert "question, answer" in problem.reason
    assert "prompt and completion" in problem.allowed


def test_missing_requested_columns_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    problem = refusal_of(tokenizer, path=path, columns="messages")
    assert (problem.key, problem.fix) == ("data.columns", "data.columns=auto")


def test_a_malformed_conversation_is_refused_with_its_row(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"messages": CONVERSATION}] * 3 + [{"messages": [{"role": "user", "content": None}]}]
    problem = refusal_of(tokenizer, path=write_jsonl(tmp_path / "a.jsonl", rows))
    assert "line 4 of" in problem.reason


def test_numbers_instead_of_text_are_refused_with_their_row(tokenizer: Any, tmp_path: Path) -> None:
    problem = refusal_of(tokenizer, path=write_jsonl(tmp_path / "a.jsonl", [{"text": 1}, {"text": 2}]))
    assert "line 1 of" in problem.reason
