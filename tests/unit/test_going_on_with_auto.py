"""An automatic run that goes on, or is repeated: it keeps its choice, but for what the user says now."""

from pathlib import Path

import pytest

from tests.support.planning import GIB, plan_of, problems_of
from tests.support.plans import begin_attempt
from zpipe.compose.repeat import continuing, repeating
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import write_plan
from zpipe.running.start import start_of
from zpipe.trees import value_at

H100 = Gpu(name="NVIDIA H100 80GB HBM3", memory=81_559 * 2**20, compute_capability=(9, 0))
ONE, TWO, FOUR = (Hardware(gpus=(H100,) * count, cores=16, memory=128 * GIB) for count in (1, 2, 4))
MODEL = ("model=llama3_1b", "data.max_length=2048", "train.max_steps=20")
GROUPS = ("stage=auto", "offload=auto", "batch=auto", "activation_checkpointing=auto")
AUTO = (*MODEL, *GROUPS, "batch.global_batch_size=16")
ON_THE_HOST = (*AUTO, "model=llama3_3b", "hardware.gpu_memory_gib=24")


def begun(folder: Path, *overrides: str, hardware: Hardware = ONE) -> Plan:
    plan = write_plan(plan_of(*overrides, hardware=hardware, run_dir=folder))
    begin_attempt(folder)
    return plan


def repeated(plan: Plan, *more: str, folder: str = "/runs/other") -> Plan:
    return plan_of(*repeating(plan, list(more)), hardware=ONE, run_dir=Path(folder))


def values(plan: Plan, group: str) -> dict[str, object]:
    return dict(value_at(plan.experiment, group))


@pytest.mark.parametrize("option", ["stage=1", "stage=2", "stage=3"])
def test_a_repetition_has_the_stage_that_is_typed(tmp_path: Path, option: str) -> None:
    first = begun(tmp_path, *AUTO)
    assert first.experiment.stage.stage == 0
    typed = values(plan_of(*MODEL, option, hardware=ONE), "stage")
    assert values(repeated(first, option), "stage") == typed
    assert values(repeated(repeated(first), option), "stage") == typed


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("batch=default", "batch.per_device_train_batch_size", 1),
        ("kernels=none", "kernels.liger", False),
        ("kernels=fused_loss", "kernels.liger", "loss"),
        ("offload=none", "offload.offload_optimizer.device", "none"),
        ("activation_checkpointing=none", "train.gradient_checkpointing", False),
        ("activation_checkpointing=transformers", "train.gradient_checkpointing", True),
    ],
)
def test_a_repetition_has_the_option_that_is_typed(
    tmp_path: Path, option: str, key: str, value: object
) -> None:
    first = begun(tmp_path, *ON_THE_HOST)
    for plan in (first, repeated(first, "memory.check=warn")):
        again = repeated(plan, option, "memory.check=warn")
        assert value_at(again.experiment, key) == value


def test_a_repetition_can_choose_again(tmp_path: Path) -> None:
    first = begun(tmp_path, *ON_THE_HOST)
    again = repeated(first, "batch=auto", "batch.global_batch_size=8")
    assert again.choice is not None
    assert "batch" in again.choice.groups
    assert again.micro_batch <= 8 < first.micro_batch


def test_a_repetition_without_changes_has_the_settings_that_were_chosen(tmp_path: Path) -> None:
    for number, overrides in enumerate((AUTO, ON_THE_HOST)):
        first = begun(tmp_path / str(number), *overrides)
        again = repeated(first)
        assert again.experiment == first.experiment
        assert repeated(again).experiment == first.experiment


def test_an_option_that_is_typed_replaces_a_key_that_outweighs_it(tmp_path: Path) -> None:
    first = begun(tmp_path, "stage=auto", "stage.stage=1", "stage.reduce_bucket_size=5e7")
    again = repeated(first, "stage=3")
    assert again.experiment.stage.stage == 3
    assert again.experiment.stage.reduce_bucket_size == 5e7


def test_a_stage_that_is_typed_is_judged_where_the_run_goes_on(tmp_path: Path) -> None:
    begun(tmp_path, *AUTO)
    overrides = continuing(RunFolder(tmp_path), ["stage=1"])
    again = plan_of(*overrides, hardware=ONE, run_dir=tmp_path)
    assert again.experiment.stage.stage == 1
    assert "stage.stage: 0 -> 1" in start_of(again).changes


@pytest.mark.parametrize(
    ("restriction", "micro", "accumulation"),
    [
        (["batch.per_device_train_batch_size=4"], 4, 4),
        (["batch.per_device_train_batch_size=4", "batch.gradient_accumulation_steps=4"], 4, 4),
        (["batch.gradient_accumulation_steps=8"], 2, 8),
    ],
)
def test_sizes_that_are_set_now_are_kept_where_the_run_goes_on(
    tmp_path: Path, restriction: list[str], micro: int, accumulation: int
) -> None:
    first = begun(tmp_path, *AUTO)
    assert first.micro_batch == 16
    again = plan_of(*AUTO, *restriction, hardware=ONE, run_dir=tmp_path)
    assert (again.micro_batch, again.accumulation) == (micro, accumulation)
    assert start_of(again).attempt == 2


def test_a_smaller_micro_batch_is_accumulated_also_without_a_global_batch(tmp_path: Path) -> None:
    first = begun(tmp_path, *MODEL, *GROUPS)
    size = first.micro_batch // 2
    restriction = f"batch.per_device_train_batch_size={size}"
    again = plan_of(*MODEL, *GROUPS, restriction, hardware=ONE, run_dir=tmp_path)
    assert (again.micro_batch, again.accumulation) == (size, 2)


def test_a_stage_that_is_set_now_has_the_settings_of_its_option(tmp_path: Path) -> None:
    begun(tmp_path, *AUTO)
    again = plan_of(*AUTO, "stage.stage=2", hardware=ONE, run_dir=tmp_path)
    assert values(again, "stage") == values(plan_of("stage=2"), "stage")


@pytest.mark.parametrize(
    ("restriction", "refused"),
    [
        ("train.gradient_checkpointing=true", "train.gradient_checkpointing"),
        ("train.torch_compile=true", "train.torch_compile"),
        ("kernels.liger=false", "kernels"),
        ("batch.global_batch_size=32", "batch"),
    ],
)
def test_what_is_set_now_and_would_change_the_result_is_refused(
    tmp_path: Path, restriction: str, refused: str
) -> None:
    begun(tmp_path, *AUTO)
    with pytest.raises(Refusal) as refusal:
        start_of(plan_of(*AUTO, "memory.check=warn", restriction, hardware=ONE, run_dir=tmp_path))
    assert refused in {problem.key for problem in refusal.value.problems}


def test_kernels_of_before_are_proposed_with_the_key_that_outweighs_them(tmp_path: Path) -> None:
    begun(tmp_path, *AUTO)
    command = (*AUTO, "memory.check=warn", "kernels.liger=false")
    with pytest.raises(Refusal) as refusal:
        start_of(plan_of(*command, hardware=ONE, run_dir=tmp_path))
    (problem,) = refusal.value.problems
    fix, _, _ = problem.fix.partition(",")
    assert fix == "kernels=liger kernels.liger=true"
    assert start_of(plan_of(*command, *fix.split(), hardware=ONE, run_dir=tmp_path)).attempt == 2


def test_memory_on_the_host_that_is_given_up_leaves_no_setting_of_it(tmp_path: Path) -> None:
    first = begun(tmp_path, *ON_THE_HOST)
    assert first.experiment.offload.offload_optimizer.device == "cpu"
    device = "offload.offload_optimizer.device=none"
    assert problems_of(*ON_THE_HOST, "memory.check=warn", device, hardware=ONE) == []
    again = plan_of(*ON_THE_HOST, "memory.check=warn", device, hardware=ONE, run_dir=tmp_path)
    assert again.experiment.offload.pin_memory is None


@pytest.mark.parametrize("hardware", [TWO, FOUR])
def test_more_processes_get_a_smaller_micro_batch(tmp_path: Path, hardware: Hardware) -> None:
    first = begun(tmp_path, *AUTO)
    again = plan_of(*AUTO, "train.max_steps=40", hardware=hardware, run_dir=tmp_path)
    processes = len(hardware.gpus)
    assert again.micro_batch == first.micro_batch // processes
    assert again.ds_config["train_batch_size"] == first.ds_config["train_batch_size"]
    assert start_of(again).attempt == 2
