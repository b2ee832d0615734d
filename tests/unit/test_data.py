"""The data of the worker: formats, masking, packing, the cache, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import transformers

from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data
from zpipe.train.data import load_sequences, prepare, split
from zpipe.train.formats import IGNORED, Document, documents
from zpipe.train.ranks import Rank, Reporter
from zpipe.train.tokens import CHAT_TEMPLATE, SAMPLE, Encoder

EOS = 1


class Silent(Reporter):
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(Path(), Rank(1, 1, 2, "launch"))  # a rank that writes no events
        self.said: list[str] = []

    def phase(self, name: str, detail: str = "") -> None:
        self.said.append(detail)

    def notice(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield cache


@pytest.fixture
def tokenizer() -> Any:
    return transformers.ByT5Tokenizer(extra_ids=0)


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def packed(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    path, _ = prepare(Data(**settings), tokenizer, Silent())
    return dict(datasets.Dataset.from_file(str(path)).with_format("numpy")[:])


def refused(tokenizer: Any, **settings: Any) -> Problem:
    with pytest.raises(Refusal) as caught:
        prepare(Data(**settings), tokenizer, Silent())
    (problem,) = caught.value.problems
    return problem


def document(tokenizer: Any, layout: str, row: tuple[Any, ...], **settings: Any) -> Document:
    columns = {"text": ["text"], "prompt_completion": ["prompt", "completion"], "messages": ["messages"]}
    batch = {name: [value] for name, value in zip(columns[layout], row, strict=True)}
    ((found,),) = documents(iter([batch]), layout, Data(**settings), Encoder.of(tokenizer))
    return found


def text_of(tokenizer: Any, ids: Any) -> str:
    return bytes(int(each) - 3 for each in ids if each >= 3).decode()


def learned(found: Document) -> Any:
    assert ((found.labels == found.ids) | (found.labels == IGNORED)).all()
    return found.ids[found.labels != IGNORED]


# --- encoding


def test_bytes_are_numbered_as_byt5s_own_tokenizer_does(tokenizer: Any) -> None:
    for text in (SAMPLE, "", "a", "".join(map(chr, range(300)))):
        assert (
            Encoder.of(tokenizer)([text])[0].tolist()
            == tokenizer(text, add_special_tokens=False)["input_ids"]
        )


def test_special_words_in_a_text_stay_text_under_the_bytes_tokenizer(tokenizer: Any) -> None:
    assert EOS not in Encoder.of(tokenizer)(["a</s>b"])[0]


def test_the_tokenizers_own_start_is_kept() -> None:
    found = document(word_tokenizer(), "text", ("one two",))
    assert found.ids.tolist() == [0, 3, 4, 1]
    assert (found.labels == found.ids).all()


def word_tokenizer() -> Any:
    """A fast tokenizer with bos and eos, made from nothing."""
    import tokenizers

    words = {"<s>": 0, "</s>": 1, "<unk>": 2, "one": 3, "two": 4}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    )


# --- masking


def test_all_of_a_text_is_learned_and_it_ends_with_eos(tokenizer: Any) -> None:
    found = document(tokenizer, "text", ("hello",))
    assert text_of(tokenizer, found.ids) == "hello"
    assert found.ids[-1] == EOS
    assert (found.labels == found.ids).all()


def test_of_a_pair_the_completion_and_eos_are_learned(tokenizer: Any) -> None:
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"))
    assert text_of(tokenizer, found.ids) == "2+2=4"
    assert learned(found).tolist() == [ord("4") + 3, EOS]


def test_without_completion_only_the_prompt_is_learned_too(tokenizer: Any) -> None:
    found = document(tokenizer, "prompt_completion", ("2+2=", "4"), completion_only=False)
    assert (found.labels == found.ids).all()


CONVERSATION = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "see you"},
]


def test_of_a_conversation_only_what_the_assistant_says_is_learned(tokenizer: Any) -> None:
    found = document(tokenizer, "messages", (CONVERSATION,))
    assert text_of(tokenizer, learned(found)) == "hello<|im_end|>\nsee you<|im_end|>\n"
    assert text_of(tokenizer, found.ids).startswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_before_a_reply_stand_the_very_ids_that_open_it_in_inference(tokenizer: Any) -> None:
    found = document(tokenizer, "messages", (CONVERSATION,))
    encoder = Encoder.of(tokenizer)
    opened = encoder([encoder.render(CONVERSATION[:1], open_reply=True)])[0]
    assert found.ids[: len(opened)].tolist() == opened.tolist()
    assert (found.labels[: len(opened)] == IGNORED).all()
    assert found.labels[len(opened)] != IGNORED


def test_a_template_that_changes_earlier_turns_still_has_each_reply_learned(tokenizer: Any) -> None:
    """As Qwen3's, which shows the thinking of the last reply alone."""
    eos = tokenizer.eos_token
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "message['content'] + '<|im_end|>\n'",
        "('<think/>' if message['role'] == 'assistant' and loop.last else '')"
        f" + message['content'] + '{eos}\n'",
    )
    found = document(tokenizer, "messages", (CONVERSATION,))
    assert text_of(tokenizer, learned(found)) == "hello</s><think/>see you</s>\n"


def test_a_conversation_stored_as_lists_by_key_is_read_the_same(tokenizer: Any) -> None:
    by_key = {name: [message[name] for message in CONVERSATION] for name in ("role", "content")}
    one = document(tokenizer, "messages", (CONVERSATION,))
    other = document(tokenizer, "messages", (by_key,))
    assert one.ids.tolist() == other.ids.tolist()


# --- packing


def test_documents_are_joined_and_cut_without_gap_or_overlap(tokenizer: Any, tmp_path: Path) -> None:
    texts = [f"document {number} " * (number % 7 + 1) for number in range(1000)]
    path = write(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    rows = packed(tokenizer, path=path, max_length=64)
    whole = np.concatenate([[*(byte + 3 for byte in text.encode()), EOS] for text in texts])
    assert rows["input_ids"].shape == (len(whole) // 64, 64)
    assert (rows["input_ids"].ravel() == whole[: rows["input_ids"].size]).all()
    assert (rows["labels"] == rows["input_ids"]).all()


def test_a_sequence_of_which_nothing_is_learned_is_left_out(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "p" * 100, "completion": "c" * 27}])
    rows = packed(tokenizer, path=path, max_length=32)
    assert rows["labels"].shape == (1, 32)
    assert (rows["labels"][:, 1:] != IGNORED).any(axis=1).all()


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "txt"])
def test_each_file_format_gives_the_same_ids(tokenizer: Any, tmp_path: Path, suffix: str) -> None:
    text = "the same text in every format, long enough"
    path = tmp_path / f"a.{suffix}"
    table = datasets.Dataset.from_dict({"text": [text]})
    match suffix:
        case "jsonl":
            write(path, [{"text": text}])
        case "json":
            path.write_text(json.dumps([{"text": text}], indent=1))
        case "csv":
            table.to_csv(path)
        case "parquet":
            table.to_parquet(path)
        case "txt":
            path.write_text(text)
    rows = packed(tokenizer, path=str(path), max_length=8)
    assert text_of(tokenizer, rows["input_ids"].ravel()) == text[: len(text) // 8 * 8]


def test_a_folder_is_read_in_the_order_of_its_names(tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    write(folder / "b" / "z.jsonl", [{"text": "2222222"}])
    write(folder / "a.jsonl", [{"text": "1111111"}])
    (folder / ".hidden.jsonl").write_text("broken")
    rows = packed(tokenizer, path=str(folder), max_length=8)
    assert text_of(tokenizer, rows["input_ids"].ravel()) == "11111112222222"


def test_max_samples_takes_the_first_examples(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"{number:07}"} for number in range(50)])
    assert len(packed(tokenizer, path=path, max_length=8, max_samples=3)["input_ids"]) == 3


def test_rows_without_text_are_left_out(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": None}, {"text": "1234567"}, {"text": ""}])
    rows = packed(tokenizer, path=path, max_length=8)
    assert text_of(tokenizer, rows["input_ids"].ravel()) == "1234567"


def test_the_standard_library_can_be_packed_in_a_few_seconds(tokenizer: Any) -> None:
    rows = packed(tokenizer, source="python_stdlib", max_length=512)
    assert 1_000_000 < rows["input_ids"].size <= 8_100_000
    assert "\nimport os\n" in text_of(tokenizer, rows["input_ids"].ravel())


# --- the cache


def test_a_second_run_takes_the_packed_sequences_from_the_cache(tokenizer: Any, tmp_path: Path) -> None:
    data = Data(path=write(tmp_path / "a.jsonl", [{"text": "1234567"}]), max_length=8)
    first, second = Silent(), Silent()
    path, layout = prepare(data, tokenizer, first)
    written = path.stat().st_mtime_ns
    assert prepare(data, tokenizer, second) == (path, layout)
    assert path.stat().st_mtime_ns == written
    assert any("cache" in said for said in second.said)
    assert not any("cache" in said for said in first.said)


def test_changed_data_or_settings_are_packed_anew(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    data = Data(path=write(file, [{"text": "1234567" * 9}]), max_length=8)
    first, _ = prepare(data, tokenizer, Silent())
    assert prepare(data.model_copy(update={"max_length": 9}), tokenizer, Silent())[0] != first
    write(file, [{"text": "7654321" * 9}])
    second, _ = prepare(data, tokenizer, Silent())
    assert second != first
    assert text_of(tokenizer, datasets.Dataset.from_file(str(second))[0]["input_ids"]) == "76543217"


def test_nothing_is_left_in_the_cache_by_refused_data(
    tokenizer: Any, tmp_path: Path, own_cache: Path
) -> None:
    refused(tokenizer, path=write(tmp_path / "a.jsonl", [{"text": "1234567"}]), max_length=64)
    assert not list((own_cache / "zpipe").iterdir())


# --- holding out


def test_the_same_seed_holds_out_the_same_sequences_and_none_is_lost() -> None:
    rows = datasets.Dataset.from_dict({"input_ids": [[number] for number in range(100)]})
    data = Data(eval_fraction=0.1)
    one, again, other = split(rows, data, 7), split(rows, data, 7), split(rows, data, 8)
    assert one.held_out is not None and again.held_out is not None and other.held_out is not None
    assert len(one.held_out) == 10
    assert one.held_out[:] == again.held_out[:] != other.held_out[:]
    both = [*one.train["input_ids"], *one.held_out["input_ids"]]
    assert sorted(both) == [[number] for number in range(100)]


def test_a_tiny_share_still_holds_out_one_sequence() -> None:
    rows = datasets.Dataset.from_dict({"input_ids": [[1], [2], [3]]})
    held_out = split(rows, Data(eval_fraction=0.001), 0).held_out
    assert held_out is not None
    assert len(held_out) == 1


def test_holding_out_everything_is_refused() -> None:
    rows = datasets.Dataset.from_dict({"input_ids": [[1]]})
    with pytest.raises(Refusal, match=r"data\.eval_fraction"):
        split(rows, Data(eval_fraction=0.5), 0)


# --- what is refused


def test_a_missing_file_is_refused_with_the_one_that_was_meant(tokenizer: Any, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"text": "x"}])
    problem = refused(tokenizer, path=str(tmp_path / "trian.jsonl"))
    assert problem.key == "data.path"
    assert str(tmp_path / "train.jsonl") in problem.reason


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tokenizer: Any, tmp_path: Path, content: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    assert refused(tokenizer, path=str(file)).key == "data.path"


@pytest.mark.parametrize("broken", ['{"text": "cut', "not json", '["an array"]', "{'text': 'single quotes'}"])
def test_a_broken_line_is_named_by_its_number(tokenizer: Any, tmp_path: Path, broken: str) -> None:
    lines = [json.dumps({"text": f"line {number}"}) for number in range(1, 21)]
    lines[6] = broken
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(lines) + "\n")
    problem = refused(tokenizer, path=str(file))
    assert problem.key == "data.path"
    assert f"line 7 of {file} is not" in problem.reason


def test_unusable_columns_are_refused_by_name(tokenizer: Any, tmp_path: Path) -> None:
    problem = refused(tokenizer, path=write(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}]))
    assert problem.key == "data.path"
    assert "question, answer" in problem.reason
    assert "prompt and completion" in problem.allowed


def test_columns_that_were_asked_for_and_are_not_there_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x"}])
    assert refused(tokenizer, path=path, columns="messages").key == "data.columns"


def test_data_without_a_trainable_token_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "hi " * 50}]}] * 4)
    problem = refused(tokenizer, path=path, max_length=8)
    assert problem.key == "data.path"
    assert "no trainable token" in problem.reason


def test_too_little_text_is_refused_with_the_length_that_fits(tokenizer: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x" * 99}])
    problem = refused(tokenizer, path=path, max_length=1024)
    assert (problem.key, problem.value, problem.fix) == ("data.max_length", 1024, "data.max_length=96")
    assert len(packed(tokenizer, path=path, max_length=96)["input_ids"]) == 1


def test_a_malformed_conversation_is_named_by_its_row(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"messages": CONVERSATION}] * 3 + [{"messages": [{"role": "user", "content": None}]}]
    problem = refused(tokenizer, path=write(tmp_path / "a.jsonl", rows))
    assert "row 4" in problem.reason


def test_numbers_where_text_belongs_are_named_by_their_row(tokenizer: Any, tmp_path: Path) -> None:
    problem = refused(tokenizer, path=write(tmp_path / "a.jsonl", [{"text": 1}, {"text": 2}]))
    assert "row 1" in problem.reason


@pytest.mark.parametrize("name", ["some/data-set", "wikitext"])
def test_a_hub_id_is_refused_offline_and_says_so(tokenizer: Any, name: str) -> None:
    problem = refused(tokenizer, path=name)
    assert problem.key == "data.path"
    assert "hub" in problem.reason


def test_a_folder_of_mixed_formats_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "x"}])
    (tmp_path / "b.txt").write_text("x")
    assert "json, text" in refused(tokenizer, path=str(tmp_path)).reason


def test_no_path_at_all_is_refused(tokenizer: Any) -> None:
    assert refused(tokenizer).key == "data.path"


# --- the other ranks


def test_another_rank_loads_what_rank_0_prepared_for_this_launch(
    tokenizer: Any, tmp_path: Path, own_cache: Path
) -> None:
    data = Data(path=write(tmp_path / "a.jsonl", [{"text": "1234567" * 20}]), max_length=8)

    class Plan:
        folder = tmp_path
        experiment = type("E", (), {"data": data, "train": type("T", (), {"seed": 1})})

    plan: Any = Plan
    ours = load_sequences(plan, tokenizer, Rank(0, 0, 2, "launch"), Silent())
    theirs = load_sequences(plan, tokenizer, Rank(1, 1, 2, "launch"), Silent())
    assert (ours.train[:]["input_ids"] == theirs.train[:]["input_ids"]).all()
