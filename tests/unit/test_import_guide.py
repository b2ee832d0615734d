"""The configurations of the DeepSpeed guide compile to their equivalents, and its mistakes are reported."""

import pytest

from tests.support.equivalence import ONE_GPU, differences
from tests.support.importing import GUIDE, unnamed
from tests.support.planning import plan_of
from zpipe.converters.importer import import_files
from zpipe.converters.reading import read

CLEAN: tuple[str, ...] = (
    "zero1",
    "zero3",
    "notebook",
    "optimizer",
    "fp16",
    "fp32",
    "bf16",
    "batch",
    "accumulation",
)
CLEAN += ("clipping", "communication", "checkpoint", "untested")


@pytest.mark.parametrize("name", CLEAN)
def test_guide_configuration_compiles_to_its_equivalent(name: str) -> None:
    file = GUIDE / f"{name}.json"
    imported = import_files([file])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert unnamed(differences(read(file)[0], plan), imported) == {}


def test_optimizer_and_scheduler_files_are_read_together() -> None:
    files = [GUIDE / "optimizer.json", GUIDE / "scheduler.json"]
    imported = import_files(files)
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    both = {**read(files[0])[0], **read(files[1])[0]}
    assert unnamed(differences(both, plan), imported) == {}
    assert plan.ds_config["scheduler"]["type"] == "WarmupDecayLR"


def test_missing_comma_is_reported() -> None:
    imported = import_files([GUIDE / "zero2.json"])
    (finding,) = imported.findings
    assert finding.problem.key == "zero2.json, line 13, column 37"
    assert finding.problem.reason == 'missing comma after "contiguous_gradients": true'
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert unnamed(differences(read(GUIDE / "zero2.json")[0], plan), imported) == {}
    assert plan.ds_config["zero_optimization"]["round_robin_gradients"] is True


def test_misplaced_aio_block_is_reported() -> None:
    imported = import_files([GUIDE / "nvme.json"])
    problems = {each.problem.key: each.problem for each in imported.findings}
    assert problems["zero_optimization.aio"].reason == "in the wrong block: DeepSpeed refuses it"
    assert problems["zero_optimization.aio"].allowed == "aio"
    (note,) = [note for note in imported.notes if note.key == "aio.thread_count"]
    assert "renamed" in note.reason  # DeepSpeed ignores the old name
    assert "zero_optimization.sub_group_size" in problems


def test_fixed_nvme_configuration_compiles_to_its_equivalent() -> None:
    imported = import_files([GUIDE / "nvme.json"], ["model=tiny"], fix=True)
    assert all(finding.automatic_fix for finding in imported.findings)
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    original = read(GUIDE / "nvme.json")[0]
    original["aio"] = original["zero_optimization"].pop("aio")
    assert unnamed(differences(original, plan), imported) == {}
    assert plan.ds_config["aio"]["queue_depth"] == 32


def test_amp_is_reported_as_removed() -> None:
    (finding,) = import_files([GUIDE / "amp.json"]).findings
    assert finding.problem.key == "amp"
    assert "removed from DeepSpeed" in finding.problem.reason
    assert "precision=bf16" in finding.problem.fix


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gather", "zero_optimization.stage3_gather_16bit_weights_on_model_save"),
        ("client_optimizer", "zero_force_ds_cpu_optimizer"),
    ],
)
def test_fragment_without_effect_is_left_out_with_a_note(name: str, key: str) -> None:
    imported = import_files([GUIDE / f"{name}.json"])
    assert imported.findings == ()
    assert key in {note.key for note in imported.notes}
