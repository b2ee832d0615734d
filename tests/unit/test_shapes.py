"""Which checkpoints can be distributed anew for another number of processes, or another stage."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import edit_manifest, make_checkpoint
from tests.support.plans import begin_attempt, make_plan
from zpipe.checkpoints.manifest import Manifest, read_manifest
from zpipe.checkpoints.shape import ELEMENTWISE, Shape, is_distributed_anew, shape_problems
from zpipe.plans.plan import Engine, Plan
from zpipe.problems import Refusal
from zpipe.running.choose import checkpoint_for, reshaping_lines
from zpipe.train.trainers.other_ranks import combined_losses, loss_file


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of one process at stage 2."""
    return make_checkpoint(tmp_path / "run", 40)


def plan_of_shape(
    tmp_path: Path, processes: int, stage: int, optimizer: str = "AdamW", **settings: Any
) -> Plan:
    keys = {name.replace("__", "."): value for name, value in settings.items()}
    plan = make_plan(tmp_path / "run", experiment={"stage.stage": stage, **keys})
    launch = plan.launch.model_copy(update={"world_size": processes, "nproc_per_node": processes})
    engine = Engine(optimizer=optimizer, scheduler="LambdaLR", dtype="fp32")
    return plan.model_copy(update={"launch": launch, "engine": engine})


def saved(checkpoint: Path, **changes: Any) -> Manifest:
    edit_manifest(checkpoint, **changes)
    return read_manifest(checkpoint)


@pytest.mark.parametrize("optimizer", sorted(ELEMENTWISE))
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (5, 3)])
def test_every_shape_of_stages_1_to_3_is_accepted(
    shape: tuple[int, int], optimizer: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert shape_problems(plan_of_shape(tmp_path, *shape, optimizer), read_manifest(checkpoint)) == []


@pytest.mark.parametrize(
    ("plan", "manifest", "key"),
    [
        ({"stage": 0}, {}, "stage"),
        ({"stage": 2}, {"stage": 0}, "stage"),
        ({}, {"offload": {"optimizer": "nvme", "parameters": "cpu"}}, "offload.offload_optimizer.device"),
        ({}, {"offload": {"optimizer": "cpu", "parameters": "nvme"}}, "offload.offload_param.device"),
        ({"optimizer": "MuonWithAuxAdam"}, {}, "optimizer"),
        ({"optimizer": "FusedLamb"}, {}, "optimizer"),
        ({"optimizer__optim": "lion_8bit"}, {}, "optimizer.optim"),
        ({"deepspeed__tensor_parallel__autotp_size": 2}, {}, "deepspeed.tensor_parallel.autotp_size"),
        ({"deepspeed__sequence_parallel_size": 2}, {}, "deepspeed.sequence_parallel_size"),
        ({"stage__elastic_checkpoint": True}, {}, "stage.elastic_checkpoint"),
        ({"offload__offload_optimizer__super_offload": True}, {}, "offload.offload_optimizer.super_offload"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_distributed_is_refused_by_name_with_the_way_out(
    plan: dict[str, Any], manifest: dict[str, Any], key: str, checkpoint: Path, tmp_path: Path
) -> None:
    wanted = plan_of_shape(tmp_path, **{"processes": 2, "stage": 3, **plan})
    (problem,) = shape_problems(wanted, saved(checkpoint, **manifest))
    assert problem.key == key
    stage = manifest.get("stage", 2)
    assert f"the checkpoint is of 1 process at stage {stage}, the run of 2 processes at" in problem.reason
    assert problem.fix == f"launcher.nproc_per_node=1 stage={stage}, the shape of the checkpoint"
    same = plan_of_shape(tmp_path, **{**plan, "processes": 1, "stage": stage})
    assert shape_problems(same, read_manifest(checkpoint)) == []


def test_checkpoints_of_stage_0_are_loaded_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    assert not is_distributed_anew(Shape(2, 0), Shape(1, 0))
    manifest = saved(checkpoint, stage=0, world_size=2)
    assert shape_problems(plan_of_shape(tmp_path, 1, 0, "FusedLamb"), manifest) == []


def test_attempt_says_what_happens_to_a_checkpoint_of_another_shape(checkpoint: Path, tmp_path: Path) -> None:
    plan = plan_of_shape(tmp_path, 3, 1)
    begin_attempt(tmp_path / "run")
    assert reshaping_lines(plan, checkpoint_for(plan, pytest.fail)) == [
        "checkpoint-40 of 1 process at stage 2 is distributed anew for 3 processes at stage 1, "
        "without a copy on the disk",
        "ranks 1 to 2 are new: their random numbers begin with seeds from train.seed and the step",
    ]
    edit_manifest(checkpoint, world_size=3, stage=1)
    assert reshaping_lines(plan, checkpoint_for(plan, pytest.fail)) == []


def test_checkpoint_that_cannot_be_distributed_is_refused_before_anything_starts(
    checkpoint: Path, tmp_path: Path
) -> None:
    begin_attempt(tmp_path / "run")
    with pytest.raises(Refusal, match="optimizer=FusedLamb: its states cannot be distributed anew"):
        checkpoint_for(plan_of_shape(tmp_path, 2, 2, "FusedLamb"), pytest.fail, quick=True)


def test_losses_of_all_ranks_are_combined_to_their_mean(tmp_path: Path) -> None:
    for rank, window in enumerate((1.5, 2.0)):
        content = {"window": window.hex(), "total": (8.0).hex(), "last_logged": 3}
        (tmp_path / loss_file(rank)).write_text(json.dumps(content))
    assert combined_losses(tmp_path, 2) == {"window": (1.75).hex(), "total": (8.0).hex(), "last_logged": 3}
    assert combined_losses(tmp_path, 3) is None
