"""A run goes on with the data, the tokenizer and the model that it began with: their contents count."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.planning import plan_of
from tests.unit.test_model_folders import VOCABULARY, model_folder
from tests.unit.test_weights import CONFIG
from zpipe.data import fingerprint as fingerprints
from zpipe.data.fingerprint import fingerprint
from zpipe.plans.agreement import disagreements
from zpipe.plans.plan import Plan
from zpipe.plans.same_inputs import changed_inputs
from zpipe.runfolder.plan_file import read_plan, write_plan
from zpipe.schema.data import Data


def write_files(folder: Path, **contents: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def test_fingerprint_is_of_contents_and_not_of_places_or_times(tmp_path: Path) -> None:
    here = write_files(tmp_path / "here", a="one", b="two")
    there = write_files(tmp_path / "there" / "deeper", a="one", b="two")
    os.utime(there[0], (0, 0))
    assert fingerprint(here) == fingerprint(reversed(there))


@pytest.mark.parametrize(
    "other", [{"a": "One", "b": "two"}, {"a": "one", "c": "two"}, {"a": "onet", "b": "wo"}, {"a": "one"}]
)
def test_fingerprint_differs_with_names_sizes_and_contents(other: dict[str, str], tmp_path: Path) -> None:
    here = write_files(tmp_path / "here", a="one", b="two")
    assert fingerprint(here) != fingerprint(write_files(tmp_path / "there", **other))


def test_nothing_has_no_fingerprint() -> None:
    assert fingerprint([]) is None


def test_large_data_is_read_in_samples_from_first_to_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(fingerprints, "_SAMPLE_BYTES", 10)
    files = write_files(tmp_path, a="a" * 3000, b="b" * 2000)
    original = fingerprint(files)
    for file, place in ((files[0], 0), (files[1], 1999)):
        content = file.read_text()
        file.write_text(content[:place] + "x" + content[place + 1 :])
        assert fingerprint(files) != original
        file.write_text(content)
    assert fingerprint(files) == original


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Data and a model, in folders."""
    write_files(tmp_path / "data", **{"one.txt": "some text\n" * 20})
    (tmp_path / "model").mkdir()
    model_folder(tmp_path / "model")
    return tmp_path


def planned(inputs: Path) -> Plan:
    """As it is read back from its file."""
    plan = plan_of(
        f"data.path={inputs / 'data'}", f"model.name_or_path={inputs / 'model'}", run_dir=inputs / "run"
    )
    write_plan(plan)
    return read_plan(inputs / "run")


def change(file: str, content: str) -> Callable[[Path], object]:
    return lambda inputs: (inputs / file).write_text(content)


CHANGES = [
    (change("data/one.txt", "other text" * 20), "data.path", "the data"),
    (change("data/two.txt", "more text"), "data.path", "the data"),
    (change("model/tokenizer.json", json.dumps({**VOCABULARY, "x": 1})), "model.tokenizer", "the tokenizer"),
    (change("model/chat_template.jinja", "{{ x }}"), "model.tokenizer", "the tokenizer"),
    (
        change("model/config.json", json.dumps({**CONFIG, "rms_norm_eps": 5.0})),
        "model.name_or_path",
        "rms_norm_eps: None -> 5.0",
    ),
]


@pytest.mark.parametrize(("alter", "key", "what"), CHANGES)
def test_changed_input_is_named(alter: Callable[[Path], object], key: str, what: str, inputs: Path) -> None:
    before = planned(inputs)
    alter(inputs)
    (problem,) = changed_inputs(before, planned(inputs))
    assert problem.key == key
    assert what in problem.reason
    (on_another_node,) = disagreements(before, planned(inputs))
    assert on_another_node.key == key


def test_unchanged_inputs_are_the_same(inputs: Path) -> None:
    before = planned(inputs)
    (inputs / "data" / "one.txt").touch()
    assert list(changed_inputs(before, planned(inputs))) == []


def test_other_names_are_judged_by_the_settings_alone(inputs: Path) -> None:
    before = planned(inputs)
    write_files(inputs / "other", **{"one.txt": "other text"})
    update = {"data": Data(path=str(inputs / "other"))}
    after = before.model_copy(
        update={
            "experiment": before.experiment.model_copy(update=update),
            "inputs": before.inputs.model_copy(update={"data": "another"}),
        }
    )
    assert list(changed_inputs(before, after)) == []
