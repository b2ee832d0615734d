"""The JSON and TrainingArguments agree, and every `auto` with a known value is resolved."""

import json
from pathlib import Path

import pytest

from tests.support.planning import CPU, GIB, H200, V100, gpus, plan_of
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.plans.plan import Plan
from zpipe.runfolder.plan_file import read_plan, write_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(
        "stage=3",
        "precision=bf16",
        "batch.gradient_accumulation_steps=4",
        "train.learning_rate=3e-4",
        "train.max_grad_norm=0.5",
        "launcher.nproc_per_node=2",
        hardware=gpus(H200, H200),
    )


def test_json_and_training_arguments_agree(plan: Plan) -> None:
    config, arguments = plan.ds_config, plan.training_arguments
    micro, accumulation = arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]
    assert config["train_micro_batch_size_per_gpu"] == micro
    assert config["gradient_accumulation_steps"] == accumulation
    assert config["train_batch_size"] == micro * accumulation * 2
    assert config["gradient_clipping"] == arguments["max_grad_norm"] == 0.5
    assert config["optimizer"]["params"]["lr"] == arguments["learning_rate"] == 3e-4
    assert config["bf16"]["enabled"] is arguments["bf16"] is True
    assert config["fp16"]["enabled"] is arguments["fp16"] is False


@pytest.mark.parametrize(("accumulation", "micro"), [("null", 16), (2, 8)])
def test_micro_batch_follows_from_the_total_as_in_deepspeed(accumulation: object, micro: int) -> None:
    plan = plan_of(
        "batch.per_device_train_batch_size=null",
        "batch.train_batch_size=32",
        f"batch.gradient_accumulation_steps={accumulation}",
        hardware=gpus(H200, H200),
    )
    assert plan.ds_config["train_batch_size"] == 32
    assert plan.ds_config["train_micro_batch_size_per_gpu"] == micro
    assert plan.training_arguments["per_device_train_batch_size"] == micro


def test_auto_is_computed_from_the_hidden_size_on_a_cpu() -> None:
    plan = plan_of("stage=3")
    zero = plan.ds_config["zero_optimization"]
    assert zero["reduce_bucket_size"] == 384 * 384
    assert zero["stage3_prefetch_bucket_size"] == int(0.9 * 384 * 384)
    assert zero["stage3_param_persistence_threshold"] == 10 * 384
    assert plan.unresolved == {}


@pytest.mark.parametrize(
    ("model", "gib", "bucket", "prefetch", "persistence"),
    [
        ("llama3_8b", 80, 200_000_000, 100_000_000, 1_000_000),
        ("llama3_8b", 16, 85_899_345, 85_899_345, 1_000_000),  # 1 % of the memory
        ("tiny", 80, 4_133_760, 4_133_760, 1_000_000),  # the whole model
    ],
)
def test_auto_is_larger_where_the_gpu_has_room(
    model: str, gib: int, bucket: int, prefetch: int, persistence: int
) -> None:
    card = Gpu(name="NVIDIA A100-SXM4-80GB", memory=gib * GIB, compute_capability=(8, 0))
    plan = plan_of("stage=3", f"model={model}", "memory.check=warn", hardware=gpus(card, card))
    zero = plan.ds_config["zero_optimization"]
    assert zero["reduce_bucket_size"] == bucket
    assert zero["stage3_prefetch_bucket_size"] == prefetch
    assert zero["stage3_param_persistence_threshold"] == persistence


def test_unknown_value_stays_auto_with_a_reason() -> None:
    plan = plan_of(
        "stage=3", "model.name_or_path=org/unseen", "scheduler=warmup_decay", "train.warmup_steps=0.1"
    )
    assert set(plan.unresolved) == {
        "zero_optimization.reduce_bucket_size",
        "zero_optimization.stage3_prefetch_bucket_size",
        "zero_optimization.stage3_param_persistence_threshold",
        "scheduler.params.total_num_steps",
        "scheduler.params.warmup_num_steps",
    }
    assert all(plan.unresolved.values())


def test_scheduler_steps_are_resolved_from_max_steps() -> None:
    overrides = ("scheduler=warmup_decay", "train.max_steps=50", "train.warmup_steps=0.1")
    params = plan_of(*overrides).ds_config["scheduler"]["params"]
    assert params["total_num_steps"] == 50
    assert params["warmup_num_steps"] == 5


def test_deepspeed_scheduler_has_at_least_one_warmup_step() -> None:
    params = plan_of("scheduler=warmup", "train.warmup_steps=0").ds_config["scheduler"]["params"]
    assert params["warmup_num_steps"] == 1


@pytest.mark.parametrize(
    ("hardware", "dtype"),
    [(CPU, "fp32"), (gpus(H200), "bf16"), (gpus(V100), "fp16")],
    ids=["cpu", "h200", "v100"],
)
def test_auto_precision_depends_on_the_device(hardware: Hardware, dtype: str) -> None:
    config = plan_of(hardware=hardware).ds_config
    assert config["bf16"]["enabled"] == (dtype == "bf16")
    assert config["fp16"]["enabled"] == (dtype == "fp16")


def test_adam_couples_weight_decay_and_adamw_does_not() -> None:
    assert plan_of("optimizer=adam").ds_config["optimizer"]["params"]["adam_w_mode"] is False
    assert "adam_w_mode" not in plan_of("optimizer=adamw").ds_config["optimizer"]["params"]


def test_adam_with_decoupled_decay_is_adamw() -> None:
    assert plan_of("optimizer=adam").engine.optimizer == "Adam"
    assert plan_of("optimizer=adam", "optimizer.params.adam_w_mode=true").engine.optimizer == "AdamW"


def test_range_test_starts_at_the_learning_rate() -> None:
    params = plan_of("scheduler=lr_range_test", "train.learning_rate=3e-4").ds_config["scheduler"]["params"]
    assert params["lr_range_test_min_lr"] == 3e-4


def test_batches_are_copied_while_the_gpu_computes() -> None:
    on_a_gpu = plan_of(hardware=gpus(H200)).training_arguments
    assert on_a_gpu["dataloader_pin_memory"] and on_a_gpu["accelerator_config"] == {"non_blocking": True}
    pageable = plan_of("train.dataloader_pin_memory=false", hardware=gpus(H200)).training_arguments
    assert "accelerator_config" not in pageable
    assert "accelerator_config" not in plan_of().training_arguments


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", None)])
def test_tf32_follows_the_precision(precision: str, tf32: bool | None) -> None:
    plan = plan_of(f"precision={precision}", "compile=torch", hardware=gpus(H200))
    assert plan.training_arguments.get("tf32") is tf32


def test_optim_args_are_passed_to_transformers() -> None:
    plan = plan_of("optimizer.type=null", "optimizer.optim=sgd", "optimizer.optim_args='momentum=0.9'")
    assert plan.training_arguments["optim_args"] == "momentum=0.9"


def test_operators_depend_on_device_and_offload() -> None:
    assert plan_of().operators == []
    assert plan_of("stage=3", "offload=cpu").operators == ["cpu_adam"]
    assert plan_of("stage=3", "offload=nvme").operators == ["async_io", "cpu_adam"]
    assert plan_of(hardware=gpus(H200)).operators == ["fused_adam"]


def test_each_run_has_its_own_swap_folder() -> None:
    first = plan_of("stage=3", "offload=nvme", "offload.nvme_path=/nvme", run_dir=Path("/runs/day/one"))
    second = plan_of("stage=3", "offload=nvme", "offload.nvme_path=/nvme", run_dir=Path("/runs/day/two"))
    assert first.swap_dir != second.swap_dir
    zero = first.ds_config["zero_optimization"]
    assert zero["offload_param"]["nvme_path"] == zero["offload_optimizer"]["nvme_path"] == first.swap_dir


def test_preset_parameter_counts_match_the_published_ones() -> None:
    millions = {
        "llama3_1b": 1235.8,
        "llama3_3b": 3212.7,
        "llama3_8b": 8030.3,
        "llama3_70b": 70553.7,
        "qwen2_5_0_5b": 494.0,
        "qwen2_5_7b": 7615.6,
        "mistral_7b": 7248.0,
        "mixtral_8x7b": 46702.8,
        "qwen3_30b_a3b": 30532.1,
    }
    for preset, expected in millions.items():
        parameters = plan_of(f"model={preset}", "memory.check=warn", hardware=gpus(H200)).model.parameters
        assert parameters is not None
        assert round(parameters / 1e6, 1) == expected, preset


def test_plan_is_read_back_unchanged(plan: Plan, tmp_path: Path) -> None:
    here = plan.model_copy(update={"run_dir": str(tmp_path)})
    write_plan(here)
    assert read_plan(tmp_path) == here
    assert json.loads((tmp_path / "ds_config.json").read_text()) == plan.ds_config


def test_same_overrides_give_the_same_plan() -> None:
    assert plan_of("stage=3", "offload=nvme") == plan_of("stage=3", "offload=nvme")


def test_secrets_are_not_written_to_the_run_folder(tmp_path: Path) -> None:
    overrides = (
        "tracking.uri=postgresql://me:hunter22@db/mlflow",
        "launcher.env.HF_TOKEN=hf_verysecret",
        "launcher.env.OMP_NUM_THREADS='7'",
    )
    plan = plan_of(*overrides, run_dir=tmp_path)
    write_plan(plan)
    written = "".join(file.read_text() for file in tmp_path.iterdir())
    assert "hunter22" not in written
    assert "hf_verysecret" not in written
    assert "hf_verysecret" in plan.launch.env.values(), "the workers need it"
    assert read_plan(tmp_path).launch.env["OMP_NUM_THREADS"] == "7"


def test_sequential_allgather_sets_the_prefetch_bucket_to_1() -> None:
    zero = plan_of("stage=3", "stage.stage3_allgather_sequential=true").ds_config["zero_optimization"]
    assert zero["stage3_prefetch_bucket_size"] == 1


def test_bf16_optimizer_at_stage_1_is_reported() -> None:
    plan = plan_of("stage=1", "precision=bf16", "precision.data_types.grad_accum_dtype=fp32")
    assert [notice.level for notice in plan.notices if "BF16_Optimizer" in notice.text] == ["warning"]


def test_epochs_overridden_by_max_steps_are_reported() -> None:
    def warned(*overrides: str) -> list[str]:
        return [each.key for each in plan_of(*overrides).notices if each.key == "train.num_train_epochs"]

    assert warned("train.num_train_epochs=3") == ["train.num_train_epochs"]
    assert warned("train.num_train_epochs=3", "train.max_steps=-1") == []


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        (["checkpoint.save_steps=3", "checkpoint.save_total_limit=2"], [6, 7]),
        (["checkpoint.save_steps=3", "checkpoint.save_total_limit=null"], [3, 6, 7]),
        (["checkpoint.save_steps=500"], [7]),
        (["checkpoint=none"], []),
    ],
)
def test_last_checkpoint_is_always_expected(overrides: list[str], kept: list[int]) -> None:
    expected = plan_of("train.max_steps=7", "train.warmup_steps=0", *overrides).expected_files
    assert [name for name in expected if name.startswith("checkpoint")] == [f"checkpoint-{n}" for n in kept]


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("option", ["hpz", "full"])
def test_the_second_partition_of_zeropp_follows_the_gpus_of_a_node(option: str, count: int) -> None:
    plan = plan_of("stage=3", f"zeropp={option}", "precision=bf16", hardware=gpus(*[H200] * count))
    assert plan.ds_config["zero_optimization"]["zero_hpz_partition_size"] == count
