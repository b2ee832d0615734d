"""GROUP=auto: the fastest settings that are predicted to fit, what is kept, and how the choice is told."""

from pathlib import Path

import pytest

from tests.support.planning import CPU, GIB, composed_of, gpus, plan_of, problems_of
from tests.support.plans import begin_attempt
from tests.support.process import REPOSITORY
from tests.unit.test_light_planning import run_commands
from zpipe.cli.main import main
from zpipe.facts.facts import Facts, gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.memory.predict import predict_memory
from zpipe.plans.given import Given
from zpipe.plans.memory import MemoryPrediction
from zpipe.plans.plan import Plan
from zpipe.problems import Fix
from zpipe.runfolder.plan_file import write_plan
from zpipe.schema.experiment import Experiment
from zpipe.search.fitting import Judge
from zpipe.search.shapes import MICRO_BATCHES, shapes_of

EVERYTHING = ("stage=auto", "offload=auto", "batch=auto", "activation_checkpointing=auto", "kernels=auto")
LENGTH = "data.max_length=2048"
H100 = Gpu(name="NVIDIA H100 80GB HBM3", memory=81_559 * 2**20, compute_capability=(9, 0))
ONE, TWO = gpus(H100), gpus(H100, H100)
LARGE = ("model=llama3_70b", "hardware=h100_80gb", "launcher.nodes=16", "launcher.master_addr=node0")


def places(plan: Plan) -> tuple[int, str, str]:
    stage, offload = plan.experiment.stage, plan.experiment.offload
    return stage.stage, offload.offload_optimizer.device, offload.offload_param.device


def fits(plan: Plan) -> bool:
    return bool(plan.memory_fits) and all(fit.verdict == "fits" for fit in plan.memory_fits)


def test_small_model_on_a_large_gpu_has_a_large_batch_and_no_offload() -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_1b", hardware=ONE)
    assert places(plan)[1:] == ("none", "none")
    assert plan.micro_batch >= 16
    assert not plan.experiment.train.gradient_checkpointing
    assert plan.training_arguments["use_liger_kernel"] is True
    assert fits(plan)


def test_states_that_the_gpu_cannot_hold_are_offloaded() -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_3b", "hardware.gpu_memory_gib=24", hardware=ONE)
    assert places(plan)[1] == "cpu"
    assert fits(plan)


def test_memory_that_is_not_pinned_or_a_part_of_the_states_is_used_where_the_host_is_small() -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_8b", hardware=ONE)
    offload = plan.experiment.offload
    assert places(plan) == (3, "cpu", "none")
    assert offload.pin_memory is False or offload.offload_optimizer.ratio is not None
    assert fits(plan)


def test_large_model_is_partitioned_over_many_nodes() -> None:
    plan = plan_of("stage=auto", "offload=auto", *LARGE)
    assert places(plan) == (3, "none", "none")
    assert fits(plan)


def test_only_what_is_automatic_is_searched() -> None:
    plan = plan_of("stage=3", "batch=auto", LENGTH, "model=llama3_1b", hardware=ONE)
    assert places(plan) == (3, "none", "none")
    assert plan.choice is not None
    assert plan.choice.groups == ["batch", "compile", "kernels"]
    assert plan.micro_batch > 1


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("stage.stage=3", "stage.stage"),
        ("batch.per_device_train_batch_size=3", "batch.per_device_train_batch_size"),
        ("offload.offload_optimizer.device=cpu", "offload.offload_optimizer.device"),
        ("train.gradient_checkpointing=true", "train.gradient_checkpointing"),
    ],
)
def test_key_that_the_user_sets_restricts_the_search(override: str, key: str) -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_1b", override, hardware=ONE)
    value = plan.experiment.model_dump()
    for name in key.split("."):
        value = value[name]
    assert str(value).lower() == override.partition("=")[2]


def is_compiled(plan: Plan) -> bool:
    return plan.experiment.train.torch_compile and plan.experiment.compile.regional is True


def test_layers_are_compiled_in_a_long_run_and_liger_computes_the_loss() -> None:
    plan = plan_of("stage=auto", "batch=auto", LENGTH, "model=llama3_1b", hardware=ONE)
    assert is_compiled(plan)
    assert plan.training_arguments["liger_kernel_config"] == {
        "rms_norm": False,
        "rope": False,
        "swiglu": False,
    }


@pytest.mark.parametrize(
    "override",
    [
        "train.max_steps=20",
        "stage=3",
        "compile=none",
        "kernels=liger",
        "train.gradient_checkpointing=true",
        "activation_checkpointing=deepspeed",
        "train.torch_compile=false",
        "compile.regional=false",
    ],
)
def test_layers_are_not_compiled_where_it_brings_nothing_or_something_else_was_chosen(override: str) -> None:
    typed = ("stage=auto", "batch=auto", LENGTH, "model=llama3_1b", override)
    plan = plan_of(*typed, hardware=ONE)
    assert not is_compiled(plan)
    assert plan.training_arguments["use_liger_kernel"] is True
    assert "liger_kernel_config" not in plan.training_arguments


@pytest.mark.parametrize("option", ["none", "liger", "fused_loss"])
def test_chosen_kernels_are_kept(option: str) -> None:
    plan = plan_of("stage=auto", f"kernels={option}", LENGTH, "model=llama3_1b", hardware=ONE)
    assert plan.experiment.kernels.liger == {"none": False, "liger": True, "fused_loss": "loss"}[option]


def test_setting_of_a_stage_is_kept_also_where_it_is_the_one_of_the_default_stage() -> None:
    plan = plan_of("stage=auto", "stage.overlap_comm=true", "model=llama3_1b", hardware=TWO)
    assert plan.experiment.stage.overlap_comm is True


def test_batch_that_is_not_automatic_stays_as_it_was_set() -> None:
    sizes = ("batch.per_device_train_batch_size=null", "batch.train_batch_size=4")
    plan = plan_of("stage=auto", *sizes, "model=llama3_1b", hardware=TWO)
    assert plan.experiment.batch.per_device_train_batch_size is None
    assert plan.micro_batch == 2


@pytest.mark.parametrize("key", ["batch.global_batch_size", "batch.train_batch_size"])
def test_global_batch_is_kept_by_accumulation(key: str) -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_3b", f"{key}=96", hardware=TWO)
    assert plan.ds_config["train_batch_size"] == 96
    assert plan.accumulation * plan.micro_batch * 2 == 96
    assert not any(notice.key == "batch.global_batch_size" for notice in plan.notices)


def test_plan_says_that_losses_depend_on_a_batch_that_is_not_fixed() -> None:
    plan = plan_of("batch=auto", "model=llama3_1b", hardware=ONE)
    (notice,) = (notice for notice in plan.notices if notice.key == "batch.global_batch_size")
    assert "batch.global_batch_size=N" in notice.text


def test_global_batch_that_is_given_twice_is_refused() -> None:
    (problem,) = problems_of("batch.global_batch_size=8", "batch.train_batch_size=16")
    assert problem.key == "batch.global_batch_size"
    assert isinstance(problem.fix, Fix)


def test_refusal_says_what_the_smallest_combination_needs() -> None:
    (problem,) = problems_of(*EVERYTHING, LENGTH, "model=llama3_70b", hardware=ONE)
    assert (problem.key, problem.value) == ("stage", "auto")
    assert "stage 3" in problem.reason
    assert "of the host, which has 128.0 GiB" in problem.reason


def test_smallest_combination_is_chosen_where_only_a_warning_is_wanted() -> None:
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_70b", "memory.check=warn", hardware=ONE)
    assert places(plan) == (3, "cpu", "cpu")
    assert any(notice.key == "memory.check" for notice in plan.notices)


def test_settings_that_exclude_each_other_are_refused_as_without_auto() -> None:
    impossible = ("stage=0", "offload=cpu", "activation_checkpointing=auto", "model=llama3_1b")
    assert "offload.offload_optimizer.device" in {each.key for each in problems_of(*impossible, hardware=ONE)}


def test_other_mistakes_are_refused_as_without_auto() -> None:
    (problem,) = problems_of(*EVERYTHING, "model=llama3_1b", "train.max_steps=0", hardware=ONE)
    assert problem.key == "train.max_steps"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("stage=auto", "precision=fp16", "data.max_length=99999999"), "data.max_length"),
        (("stage=auto", "stage.stage3_max_live_parameters=1e8", "train.max_steps=-5"), "train.max_steps"),
        (
            ("stage=auto", "stage.stage=0", "offload=auto", "offload.offload_optimizer.device=cpu"),
            "offload.offload_optimizer.device",
        ),
        (("stage=1", "offload=auto", "offload.offload_param.device=cpu"), "offload.offload_param.device"),
    ],
)
def test_a_mistake_does_not_bring_problems_of_settings_that_nobody_asked_for(
    overrides: tuple[str, ...], key: str
) -> None:
    found = problems_of("hardware=h100_80gb", "model=llama3_1b", *overrides, hardware=ONE)
    assert [problem.key for problem in found] == [key]


def test_plan_can_be_compiled_again_without_another_choice() -> None:
    plan = plan_of(*EVERYTHING, "model=llama3_1b", hardware=ONE)
    assert not any(plan.experiment.auto.model_dump().values())
    assert plan.choice is not None
    assert plan.choice.runners_up
    assert all(each.differs for each in plan.choice.runners_up)


def test_cpu_has_nothing_to_choose_between() -> None:
    plan = plan_of(*EVERYTHING, hardware=CPU)
    assert plan.ds_config == plan_of("kernels=auto", hardware=CPU).ds_config
    assert plan.choice is not None
    assert "CPU" in plan.choice.why


def test_model_that_is_not_downloaded_keeps_the_defaults() -> None:
    plan = plan_of(*EVERYTHING, "model.name_or_path=org/unseen", hardware=ONE)
    assert places(plan) == (2, "none", "none")
    assert plan.choice is not None
    assert "nothing was compared" in plan.choice.why


def test_unknown_card_is_ranked_and_the_plan_says_what_is_assumed() -> None:
    card = Gpu(name="NVIDIA X1", memory=80 * GIB, compute_capability=(9, 0))
    plan = plan_of(*EVERYTHING, LENGTH, "model=llama3_1b", hardware=gpus(card))
    assert places(plan)[1:] == ("none", "none")
    assert any("the peak of the GPU is not known" in notice.text for notice in plan.notices)


def test_swap_files_need_room_on_the_disk() -> None:
    only_nvme = ("stage=3", "offload=auto", "offload.offload_optimizer.device=nvme", "model=llama3_1b")
    small = Hardware(gpus=(H100,), cores=16, memory=128 * GIB, free_disk=lambda _: 2 * GIB)
    large = Hardware(gpus=(H100,), cores=16, memory=128 * GIB, free_disk=lambda _: 900 * GIB)
    (problem,) = problems_of(*only_nvme, "checkpoint=none", hardware=small)
    assert "the disk" in problem.reason
    assert places(plan_of(*only_nvme, "checkpoint=none", hardware=large))[:2] == (3, "nvme")


def test_run_that_goes_on_keeps_its_choice_on_another_machine(tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = (*EVERYTHING, LENGTH, "model=llama3_3b")
    first = write_plan(plan_of(*overrides, hardware=ONE, run_dir=run))
    begin_attempt(run)
    small = gpus(Gpu(name="NVIDIA A100-SXM4-80GB", memory=60 * GIB, compute_capability=(8, 0)))
    assert plan_of(*overrides, hardware=small).micro_batch != first.micro_batch
    again = plan_of(*overrides, "memory.check=warn", hardware=small, run_dir=run)
    assert (places(again), again.micro_batch) == (places(first), first.micro_batch)
    assert again.choice is not None
    assert "began" in again.choice.why


def test_run_that_goes_on_with_more_processes_keeps_its_global_batch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = ("batch=auto", "batch.gradient_accumulation_steps=4", LENGTH, "model=llama3_1b")
    first = write_plan(plan_of(*overrides, hardware=ONE, run_dir=run))
    begin_attempt(run)
    again = plan_of("batch=auto", LENGTH, "model=llama3_1b", hardware=TWO, run_dir=run)
    assert again.ds_config["train_batch_size"] == first.ds_config["train_batch_size"]


def test_folder_that_was_only_planned_is_chosen_for_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_plan(plan_of("batch=auto", LENGTH, "model=llama3_1b", hardware=ONE, run_dir=run))
    again = plan_of("batch=auto", LENGTH, "model=llama3_1b", "stage=3", hardware=ONE, run_dir=run)
    assert again.choice is not None
    assert again.choice.chosen is not None


def test_every_chosen_value_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*EVERYTHING, LENGTH, "model=llama3_1b", "hardware=h100_80gb", "hardware.gpus_per_node=1"]
    assert main(["plan", *command, "--explain", "batch.per_device_train_batch_size"]) == 0
    out = capsys.readouterr().out
    assert "the fastest of" in out
    assert "tokens/s predicted" in out
    assert "1 (conf/batch/auto.yaml)" in out


def test_summary_has_the_choice_and_its_runners_up(capsys: pytest.CaptureFixture[str]) -> None:
    command = [*EVERYTHING, LENGTH, "model=llama3_1b", "hardware=h100_80gb", "hardware.gpus_per_node=1"]
    assert main(["plan", *command]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("auto ")]
    assert "stage.stage=" in lines[0]
    assert sum("next: " in line for line in lines) == 3
    assert "known not to fit" in lines[-1]


def test_guide_is_followed_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    machine = ["hardware=h100_80gb", "hardware.gpus_per_node=1", "hardware.host_memory_gib=128"]
    assert main(["plan", *EVERYTHING, LENGTH, "model=llama3_8b", *machine, "--explain", "auto"]) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = {line.split()[0]: line for line in lines if line[:1].isdigit()}
    assert list(steps)[:11] == [str(number) for number in range(1, 12)]
    assert "does not fit: the GPU has" in steps["2"]
    assert "does not fit: the host has" in steps["6"]
    assert "bf16" in steps["8"]
    assert "the fastest of" in steps["11"]


def test_guide_needs_an_automatic_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--explain", "auto"]) == 2
    assert "stage=auto" in capsys.readouterr().err


def test_each_point_of_a_sweep_has_its_own_choice(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["batch=auto", LENGTH, "model=llama3_1b,llama3_3b", "hardware=h100_80gb", "launcher=slurm"]
    assert main(["plan", "-m", *command, "--format", "json"]) == 0
    out = capsys.readouterr().out
    assert out.count('"key": "batch.per_device_train_batch_size"') == 2


def test_search_imports_no_heavy_package(tmp_path: Path) -> None:
    done = run_commands([["plan", "stage=auto", "offload=auto", *LARGE, "hydra.run.dir=run"]], tmp_path)
    assert done.returncode == 0, done.stderr


def test_largest_search_predicts_few_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def counted(experiment: Experiment, facts: Facts, *, reserves: bool = True) -> MemoryPrediction | None:
        nonlocal count
        count += 1
        return predict_memory(experiment, facts, reserves=reserves)

    monkeypatch.setattr("zpipe.search.fitting.predict_memory", counted)
    plan_of("stage=auto", "offload=auto", *LARGE)
    assert 0 < count < 20


@pytest.mark.parametrize("kernels", ["none", "liger", "fused_loss"])
def test_tensors_never_take_less_with_a_larger_micro_batch(kernels: str) -> None:
    """The search for the largest micro-batch that fits is a bisection."""
    asked = (*(each for each in EVERYTHING if not each.startswith("kernels")), f"kernels={kernels}")
    composed = composed_of(*asked, "data.max_length=256")
    judge = Judge(gather(composed.experiment, ONE))
    for shape in shapes_of(composed.experiment, Given(composed.provenance)):
        known = [judge.prediction(shape, micro, reserves=False) for micro in MICRO_BATCHES]
        used = [each.gpu.used for each in known if each is not None and each.gpu is not None]
        hosts = [each.host.node for each in known if each is not None and each.host is not None]
        assert (used, hosts) == (sorted(used), sorted(hosts))


def test_options_and_their_keys_agree() -> None:
    for group in ("stage", "offload", "batch", "activation_checkpointing"):
        text = (REPOSITORY / "conf" / group / "auto.yaml").read_text()
        assert f"auto:\n  {group}: true" in text


def test_stage_auto_without_a_search_is_the_default_stage() -> None:
    assert plan_of("stage=auto").ds_config == plan_of("stage=2").ds_config
