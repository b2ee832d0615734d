"""Training goes on from a model folder, with conversations as separate sequences."""

import json
import shutil

import pytest

from tests.support.process import Run, zpipe

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_run: Run) -> Run:
    cwd = tmp_path_factory.mktemp("pretrained")
    shutil.copytree(small_run.folder / "model", cwd / "model")
    unsavable = {"do_sample": False, "temperature": 0.6}
    (cwd / "model/generation_config.json").write_text(json.dumps(unsavable))
    with (cwd / "chat.jsonl").open("w") as file:
        for number in range(40):
            question = {"role": "user", "content": f"What follows {number}?"}
            reply = {"role": "assistant", "content": f"{number + 1} " * (number % 5 + 1)}
            file.write(json.dumps({"messages": [question, reply]}) + "\n")
    return zpipe(
        cwd,
        "model.name_or_path=model",
        "data.path=chat.jsonl",
        "data.packing=none",
        "data.max_length=256",
        "train.max_steps=4",
        "train.logging_steps=1",
    )


def test_it_finishes(run: Run) -> None:
    assert run.exit_code == 0, run.explain()
    assert len(run.series("loss")) == 4


def test_generation_settings_that_cannot_be_saved_are_changed_and_said(run: Run) -> None:
    assert "generation_config.json: do_sample is set to true" in run.stdout
    assert json.loads((run.folder / "model/generation_config.json").read_text())["do_sample"] is True


def test_the_new_model_starts_from_the_old_weights(run: Run, small_run: Run) -> None:
    from safetensors.numpy import load_file

    new, old = (load_file(each.folder / "model/model.safetensors") for each in (run, small_run))
    assert all(abs(new[name] - old[name]).max() < 0.1 for name in old)
