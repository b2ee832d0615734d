"""Exported folders hold the trained weights, and what is not the trained model is not exported.

One real training: two ranks at stage 2 in bf16, so that the fp32 weights are in two shards alone.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded
from tests.support.exports import (
    Fault,
    copy_of,
    deepspeeds_masters,
    differing,
    drop_tensor,
    plant_code,
    plant_nan,
    renew_manifest,
    swap_files,
    swap_shards,
    weights_in,
)
from tests.support.process import SMALL, Run, finish
from tests.support.store import Store, put_store
from zpipe.exits import Exit
from zpipe.problems import Refusal

pytestmark = pytest.mark.real

STEPS = 4
SETTINGS = (
    *SMALL,
    "stage=2",
    "precision=bf16",
    "launcher.nproc_per_node=2",
    "checkpoint=default",
    "checkpoint.save_steps=2",
    f"train.max_steps={STEPS}",
    "train.learning_rate=1e-3",
    "train.eval_strategy=steps",
    "train.eval_steps=2",
    "data.eval_fraction=0.1",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, text_file: Path) -> Path:
    cwd = put_store(empty_store, tmp_path_factory.mktemp("export"))
    arguments = (*SETTINGS, f"data.path={text_file}", f"hydra.run.dir={cwd / 'run'}")
    done = finish(preloaded.start(cwd, *arguments), cwd / "run")
    assert done.exit_code == 0, done.explain()
    return done.folder


@pytest.fixture(scope="module")
def masters(run: Path) -> tuple[Run, Path]:
    """The export of the fp32 weights in several files."""
    return export(run, run.parent / "masters", "--dtype", "fp32", "--max-shard-size", "100KB")


def export(run: Path, output: Path, *arguments: str) -> tuple[Run, Path]:
    command = ("export", str(run), "--output", str(output), *arguments)
    return preloaded.verb(run.parent, *command, folder=run), output


def checkpoint(run: Path) -> Path:
    return run / f"checkpoint-{STEPS}"


def test_fp32_weights_of_a_bf16_run_are_those_that_deepspeed_merges(
    run: Path, masters: tuple[Run, Path]
) -> None:
    done, folder = masters
    assert done.exit_code == 0, done.explain()
    assert "the master weights in 2 shards of stage 2, in fp32" in done.stdout
    assert "20 tensors, rounded to bf16, are those that the training saved" in done.stdout
    assert "a forward pass, compared with the trained weights: equal logits" in done.stdout
    expected = deepspeeds_masters(checkpoint(run))
    del expected["lm_head.weight"]  # tied
    assert differing(weights_in(folder), expected) == []
    assert len(list(folder.glob("*.safetensors"))) > 2


def test_exported_folder_is_loaded_by_transformers_in_its_format(masters: tuple[Run, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = masters
    model, report = AutoModelForCausalLM.from_pretrained(str(folder), output_loading_info=True)
    assert not any(report.values())
    assert str(model.dtype) == "torch.float32"
    assert AutoTokenizer.from_pretrained(str(folder))("a").input_ids


def test_weights_are_registered_by_their_path_and_loaded_through_mlflow(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch

    done, folder = export(run, run.parent / "registered", "--register", "tiny")
    assert done.exit_code == 0, done.explain()
    assert "registered models:/tiny/1" in done.stdout
    trained = weights_in(run / "model")
    assert (
        differing(weights_in(folder), {name: trained[name] for name in trained if "lm_head" not in name})
        == []
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Store(run.parent).file}")
    loaded = mlflow.transformers.load_model("models:/tiny/1", return_type="components")
    assert loaded["tokenizer"]("a").input_ids
    tokens = torch.arange(8).unsqueeze(0)
    assert torch.equal(loaded["model"](tokens).logits, trained_model(run)(tokens).logits)
    client = Store(run.parent).client
    experiments = [Store(run.parent).only_run().info.experiment_id]
    (model,) = client.search_logged_models(experiments, filter_string=f"name = 'export-{STEPS}-bf16'")
    assert {each.key for each in model.metrics} >= {"eval_loss"}
    (version,) = json.loads(model.tags["mlflow.modelVersions"])
    assert (version["name"], str(version["version"])) == ("tiny", "1")
    assert not list(Path(model.artifact_location).rglob("*.safetensors"))


def trained_model(run: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(run / "model"))


@pytest.mark.parametrize(
    ("fault", "dtype", "message"),
    [
        (drop_tensor, "bf16", "of 20 tensors it lacks model.norm.weight"),
        (plant_nan, "bf16", "model.norm.weight is not finite"),
        (swap_shards, "fp32", "2 shards of stage 2 is not what the training saved in bf16"),
    ],
    ids=["dropped tensor", "NaN", "two shards swapped"],
)
def test_fault_that_the_manifest_hides_is_caught(
    fault: Fault, dtype: str, message: str, run: Path, tmp_path: Path
) -> None:
    copy = copy_of(run, tmp_path / "run")
    fault(checkpoint(copy))
    assert "is damaged" in export(copy, tmp_path / "out", "--checkpoint", str(STEPS))[0].stderr
    renew_manifest(checkpoint(copy))
    done, output = export(copy, tmp_path / "out", "--dtype", dtype)
    assert done.exit_code == Exit.REFUSED, done.explain()
    assert message in done.stderr
    assert not output.exists()
    assert not list(tmp_path.glob(".exporting-*"))


def test_code_in_the_folder_of_a_stranger_is_not_executed(run: Path, tmp_path: Path) -> None:
    copy, marker = copy_of(run, tmp_path / "run"), tmp_path / "executed"
    plant_code(checkpoint(copy), marker)
    renew_manifest(checkpoint(copy))
    done, output = export(copy, tmp_path / "out", "--dtype", "fp32")
    assert done.exit_code == Exit.REFUSED, done.explain()
    assert "its shards hold objects that zpipe does not unpickle" in done.stderr
    assert not output.exists()
    done, output = export(copy, tmp_path / "out")
    assert done.exit_code == 0, done.explain()
    assert not (output / "evil.py").exists()
    assert not marker.exists()


def swap_names(folder: Path) -> None:
    one, other, *_ = sorted(folder.glob("*.safetensors"))
    swap_files(one, other)


def shorten_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(content))


def change_value(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def remove_file(folder: Path) -> None:
    sorted(folder.glob("*.safetensors"))[-1].unlink()


@pytest.mark.parametrize("fault", [swap_names, shorten_index, change_value, remove_file])
def test_fault_in_what_was_written_is_caught(
    fault: Fault, run: Path, masters: tuple[Run, Path], tmp_path: Path
) -> None:
    from zpipe.train.export.checking import check_tensors
    from zpipe.train.export.expected import expected_tensors
    from zpipe.train.export.masters import MasterWeights
    from zpipe.train.export.weights import SavedWeights

    copy, origin = copy_of(masters[1], tmp_path / "copy"), checkpoint(run)
    given = (expected_tensors(origin), MasterWeights(origin), SavedWeights(origin), "fp32", "bf16")
    assert check_tensors(copy, *given) == 20
    fault(copy)
    with pytest.raises(Refusal):
        check_tensors(copy, *given)
