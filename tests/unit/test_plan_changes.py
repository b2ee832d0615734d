"""What may change between two attempts at a run, what may not, and what the user is told."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.planning import CPU, plan_of
from tests.support.plans import make_plan
from tests.support.process import environment
from zpipe.plans.changes import FREE, LENGTHS, is_longer, other_changes, result_changes, result_digest
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan, write_plan
from zpipe.schema.base import Group
from zpipe.schema.experiment import defaults
from zpipe.schema.kubeflow import Kubeflow
from zpipe.schema.slurm import Slurm
from zpipe.trees import flatten

FREE_GROUPS = ("checkpoint", "hardware", "memory", "profiler", "resume", "tracking")
FREE_KEYS = {
    "batch.gradient_accumulation_steps",  # their product with the number of processes is compared instead
    "batch.per_device_train_batch_size",
    "batch.global_batch_size",
    "batch.train_batch_size",
    "kernels.liger",  # whether Liger is used is compared instead
    "launcher.array_parallelism",
    "launcher.env",
    "launcher.exclude",
    "launcher.hang_timeout_s",
    "launcher.hostfile",
    "launcher.include",
    "launcher.master_addr",
    "launcher.master_port",
    "launcher.max_restarts",
    "launcher.multinode_launcher",
    "launcher.node_rank",
    "launcher.nodes",
    "launcher.nproc_per_node",  # the number of processes that was decided is compared instead
    "launcher.node_timeout_s",
    "launcher.ssh_port",
    "launcher.type",
    "launcher.wait",
    *(f"launcher.slurm.{name}" for name in Slurm.model_fields),
    *(f"launcher.kubeflow.{name}" for name in Kubeflow.model_fields),
    "offload.nvme_path",
    "stage.stage",  # zpipe/checkpoints/shape.py decides
    "strict",
    "train.dataloader_num_workers",
    "train.dataloader_persistent_workers",
    "train.dataloader_pin_memory",
    "train.dataloader_prefetch_factor",
    "train.ddp_timeout",
    "train.eval_accumulation_steps",
    "train.eval_delay",
    "train.eval_on_start",
    "train.eval_steps",
    "train.eval_strategy",
    "train.logging_first_step",
    "train.logging_steps",
    "train.prediction_loss_only",
    "train.torch_empty_cache_steps",
    "train.use_liger_kernel",
}
"""The keys outside of those groups that a model does not depend on. A new key is not among them by itself."""


@pytest.fixture
def before(tmp_path: Path) -> Plan:
    return make_plan(tmp_path / "run")


def changed(plan: Plan, settings: Mapping[str, Any] | None = None, **launch: Any) -> Plan:
    """The plan with other values at these dotted keys."""
    experiment: Group = plan.experiment
    for key, value in (settings or {}).items():
        experiment = _set(experiment, key.split("."), value)
    update = {"experiment": experiment, "launch": plan.launch.model_copy(update=launch)}
    return plan.model_copy(update=update)


def _set(group: Group, names: list[str], value: Any) -> Group:
    name, *more = names
    inner = getattr(group, name)
    if more and isinstance(inner, Group):
        value = _set(inner, more, value)
    elif more:
        value = {**inner, ".".join(more): value}
    return group.model_copy(update={name: value})


def refused(before: Plan, settings: Mapping[str, Any]) -> list[Problem]:
    return list(result_changes(before, changed(before, settings)))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_setting_is_either_free_or_refused(before: Plan) -> None:
    keys = flatten(defaults())
    other: dict[str, Any] = {key: {"other": "1"} if value == {} else "other" for key, value in keys.items()}
    other["stage.stage"] = before.experiment.stage.stage  # with it, places may change
    del other["deepspeed.tensor_parallel.autotp_size"]  # the batch depends on it
    found = {problem.key.removesuffix(".other") for problem in refused(before, other)}
    found |= {problem.key for problem in refused(before, {"deepspeed.tensor_parallel.autotp_size": 1})}
    free = {key for key in keys if key.partition(".")[0] not in FREE_GROUPS and key not in found}
    assert free == FREE_KEYS
    assert not {key.partition(".")[0] for key in found} & set(FREE_GROUPS)
    assert found <= keys.keys()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_change_is_told_but_how_the_run_goes_on(before: Plan) -> None:
    keys = flatten(defaults())
    other: dict[str, Any] = {key: {"other": "1"} if value == {} else "other" for key, value in keys.items()}
    lines = other_changes(before, changed(before, other))
    told = {line.partition(":")[0].removesuffix(".other") for line in lines}
    assert told == {key for key in keys if not key.startswith("resume.")}


def test_every_free_beginning_and_every_length_belongs_to_a_setting() -> None:
    keys = [f"{key}." if value == {} else key for key, value in flatten(defaults()).items()]
    assert [each for each in FREE if not any(key.startswith(each) for key in keys)] == []
    assert [each for each in LENGTHS if each not in keys] == []


def test_a_change_of_the_result_is_refused_with_the_override_that_undoes_it(before: Plan) -> None:
    changes = {"train.learning_rate": 1e-3, "data.path": None, "train.seed": 7}
    with_data = changed(before, {"data.path": "/data/a.jsonl"})
    problems = list(result_changes(with_data, changed(before, changes)))
    shown = {problem.key: (problem.value, problem.allowed, problem.fix) for problem in problems}
    new_folder = "or a new folder: leave hydra.run.dir out"
    assert shown == {
        "data.path": ("null", "/data/a.jsonl", f"data.path=/data/a.jsonl, {new_folder}"),
        "train.learning_rate": ("0.001", "5e-05", f"train.learning_rate=5e-05, {new_folder}"),
        "train.seed": ("7", "42", f"train.seed=42, {new_folder}"),
    }


@pytest.mark.parametrize(
    ("key", "old", "new", "longer"),
    [
        ("train.max_steps", 4, 8, True),
        ("train.max_steps", 4, 2, False),
        ("train.max_steps", 4, -1, False),
        ("train.max_steps", -1, 4, False),
        ("train.num_train_epochs", 1.0, 2.5, True),
        ("train.num_train_epochs", 2.5, 1.0, False),
    ],
)
def test_a_run_may_become_longer_but_not_shorter(
    key: str, old: float, new: float, longer: bool, before: Plan
) -> None:
    by_epochs = {"train.max_steps": -1}
    first, second = changed(before, {**by_epochs, key: old}), changed(before, {**by_epochs, key: new})
    assert is_longer(first, second) is longer
    assert [problem.key for problem in result_changes(first, second)] == ([] if longer else [key])


def test_more_epochs_do_nothing_where_steps_decide(before: Plan) -> None:
    more = changed(before, {"train.num_train_epochs": 9})
    assert not is_longer(before, more)
    assert list(result_changes(before, more)) == []


def test_a_shorter_length_is_refused_with_the_least_that_is_allowed(before: Plan) -> None:
    (problem,) = result_changes(before, changed(before, {"train.max_steps": 3}))
    assert problem.allowed == "4 or more"


def test_the_same_plan_is_neither_longer_nor_changed(before: Plan) -> None:
    assert not is_longer(before, before)
    assert list(result_changes(before, before)) == []
    assert other_changes(before, before) == []


def in_batches(plan: Plan, processes: int, micro: int, accumulation: int, **settings: Any) -> Plan:
    """The plan with this number of processes, sequences in a micro-batch, and micro-batches in a step."""
    sizes = {"train_micro_batch_size_per_gpu": micro, "gradient_accumulation_steps": accumulation}
    after = changed(plan, settings, world_size=processes, nproc_per_node=processes)
    return after.model_copy(update={"ds_config": {**plan.ds_config, **sizes}})


@pytest.mark.parametrize("sizes", [(1, 4, 2), (2, 1, 4), (8, 1, 1)])
def test_another_number_of_processes_with_the_same_batch_is_told(
    sizes: tuple[int, int, int], before: Plan
) -> None:
    first, then = in_batches(before, 4, 2, 1), in_batches(before, *sizes)
    assert list(result_changes(first, then)) == []
    assert other_changes(first, then) == [f"processes: 4 -> {sizes[0]}"]
    assert result_digest(first) == result_digest(then)


@pytest.mark.parametrize(
    ("sizes", "settings", "fix"),
    [
        ((2, 2, 1), {}, "batch.gradient_accumulation_steps=3"),
        ((4, 2, 1), {}, "batch.gradient_accumulation_steps=1 batch.per_device_train_batch_size=3"),
        ((5, 1, 1), {}, "a number of processes that divides 12: launcher.nproc_per_node"),
        (
            (1, 2, 1),
            {"batch.train_batch_size": 2},
            "batch.gradient_accumulation_steps=6 batch.train_batch_size=null",
        ),
    ],
)
def test_another_batch_is_refused_with_the_override_that_keeps_it(
    sizes: tuple[int, int, int], settings: dict[str, Any], fix: str, before: Plan
) -> None:
    (problem,) = result_changes(in_batches(before, 3, 4, 1), in_batches(before, *sizes, **settings))
    assert (problem.key, problem.allowed, problem.fix) == ("batch", "12", fix)
    assert "started with 12 sequences in one step" in problem.reason


def test_with_the_stage_everything_that_is_a_place_may_change(before: Plan) -> None:
    places = {"stage.reduce_bucket_size": 9, "offload.offload_param.device": "cpu"}
    assert [problem.key for problem in refused(before, places)] == [
        "offload.offload_param.device",
        "stage.reduce_bucket_size",
    ]
    moved = changed(before, {**places, "stage.stage": 3})
    assert list(result_changes(before, moved)) == []
    assert "stage.stage: 2 -> 3" in other_changes(before, moved)
    assert result_digest(before) == result_digest(moved)


def test_no_stage_makes_quantized_values_the_same(before: Plan) -> None:
    quantized = {"stage.stage": 3, "stage.zero_quantized_gradients": True}
    assert [problem.key for problem in refused(before, quantized)] == ["stage.zero_quantized_gradients"]


def test_the_number_of_processes_may_be_written_out(before: Plan) -> None:
    written = changed(before, {"launcher.nproc_per_node": 1})
    assert list(result_changes(before, written)) == []
    assert result_digest(before) == result_digest(written)


def test_allowed_changes_are_told_as_old_and_new_values(before: Plan) -> None:
    changes = {
        "checkpoint.save_steps": 50,
        "launcher.env.NCCL_DEBUG": "INFO",
        "tracking.experiment": "other",
        "tracking.enabled": False,
        "train.logging_steps": 1,
        "train.max_steps": 8,
        "resume.trust": True,
    }
    assert other_changes(before, changed(before, changes)) == [
        "checkpoint.save_steps: 500 -> 50",
        "launcher.env.NCCL_DEBUG: null -> INFO",
        "tracking.enabled: true -> false",
        "tracking.experiment: zpipe -> other",
        "train.logging_steps: 10 -> 1",
        "train.max_steps: 4 -> 8",
    ]


def test_other_versions_of_packages_are_told(before: Plan) -> None:
    after = before.model_copy(update={"versions": {"torch": "2.12.0"}})
    assert other_changes(before, after) == [
        "torch 2.11.0 -> 2.12.0",
        "deepspeed 0.19.8 -> not installed",
    ]


SECRETS = {
    "tracking.uri": "postgresql://me:correct-horse@host/db",
    "tracking.tags.access_token": "battery-staple-1",
    "launcher.env.MY_TOKEN": "s3cret-value-77",
    "data.path": "https://me:hunter2-hunter2@host/train.jsonl",
}


def test_a_secret_that_no_file_holds_is_no_change(tmp_path: Path) -> None:
    started = make_plan(tmp_path / "run", experiment=SECRETS)
    stored = read_plan(Path(started.run_dir))
    assert "correct-horse" not in RunFolder(tmp_path / "run").plan.read_text()
    assert list(result_changes(stored, started)) == []
    assert other_changes(stored, started) == []
    assert result_digest(stored) == result_digest(started)


def test_no_change_shows_a_secret(tmp_path: Path) -> None:
    before = make_plan(tmp_path / "run")
    after = make_plan(tmp_path / "other", experiment=SECRETS)
    shown = "\n".join([*other_changes(before, after), *map(str, result_changes(before, after))])
    assert [key for key in SECRETS if key not in shown] == []
    assert not any(
        secret in shown for secret in ("correct-horse", "battery-staple-1", "s3cret-value-77", "hunter2")
    )


def test_the_digest_is_the_same_in_every_process() -> None:
    code = (
        "from tests.support.planning import plan_of; from zpipe.plans.changes import result_digest;"
        "print(result_digest(plan_of('stage=3', 'launcher.env.B=1', 'launcher.env.A=2')))"
    )
    env = environment({"PYTHONHASHSEED": "1"})
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == result_digest(plan_of("stage=3"))


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoint.save_steps": 7, "tracking.run_name": "other", "train.logging_steps": 1},
        {"launcher.env.X": "1", "train.eval_steps": 5},
        {"train.max_steps": 400, "train.num_train_epochs": 9.0},
        {"resume.checkpoint": "never", "strict": True, "offload.nvme_path": "/elsewhere"},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_the_digest_is_equal_if_only_free_settings_and_lengths_differ(
    settings: dict[str, Any], before: Plan
) -> None:
    assert result_digest(changed(before, settings)) == result_digest(before)


@pytest.mark.parametrize(
    "settings",
    [{"train.seed": 1}, {"data.max_length": 8}, {"model.config.vocab_size": 9}],
    ids=lambda settings: ", ".join(settings),
)
def test_the_digest_differs_with_every_setting_of_the_result(settings: dict[str, Any], before: Plan) -> None:
    assert result_digest(changed(before, settings)) != result_digest(before)


def test_the_digest_differs_with_batch_and_precision(before: Plan) -> None:
    other = before.engine.model_copy(update={"dtype": "bf16"})
    digests = {result_digest(each) for each in (before, changed(before, world_size=2))}
    assert len({*digests, result_digest(before.model_copy(update={"engine": other}))}) == 3


def test_a_plan_of_the_compiler_has_the_digest_of_its_file(tmp_path: Path) -> None:
    plan = plan_of("stage=3", "offload=cpu", "precision=bf16", hardware=CPU, run_dir=tmp_path / "run")
    write_plan(plan)
    assert result_digest(read_plan(tmp_path / "run")) == result_digest(plan)
