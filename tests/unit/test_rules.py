"""Every rule refuses what it is for, names the key, and its fix is accepted."""

import pytest

from tests.support.planning import CPU, H200, V100, gpus, plan_of, problems_of
from zpipe.facts.hardware import Hardware

ONE_GPU = gpus(H200)
OLD_GPU = gpus(V100)
FOUR_GPUS = gpus(H200, H200, H200, H200)

REFUSED = [
    (["stage=2", "offload=nvme"], "offload.offload_optimizer.device", CPU),
    (["stage=1", "offload=nvme_optimizer"], "offload.offload_optimizer.device", CPU),
    (["stage=2", "offload=cpu"], "offload.offload_param.device", CPU),
    (["stage=0", "offload=cpu_optimizer"], "offload.offload_optimizer.device", CPU),
    (["stage=2", "stage.stage3_max_live_parameters=1e9"], "stage.stage3_max_live_parameters", CPU),
    (["stage=2", "stage.sub_group_size=1e9"], "stage.sub_group_size", CPU),
    (["stage=3", "stage.round_robin_gradients=true"], "stage.round_robin_gradients", CPU),
    (["stage=0", "stage.reduce_bucket_size=5e8"], "stage.reduce_bucket_size", CPU),
    (["stage.compute_grad_norm=false"], "stage.compute_grad_norm", CPU),
    (["stage=3", "stage.zero_hpz_partition_size=3"], "stage.zero_hpz_partition_size", FOUR_GPUS),
    (
        ["stage=3", "precision=bf16", "stage.zero_quantized_nontrainable_weights=true"],
        "stage.zero_quantized_nontrainable_weights",
        ONE_GPU,
    ),
    (
        ["stage=3", "stage.stage3_gather_16bit_weights_on_model_save=false"],
        "stage.stage3_gather_16bit_weights_on_model_save",
        CPU,
    ),
    (
        ["stage=2", "offload=cpu_optimizer", "offload.offload_optimizer.ratio=0.5"],
        "offload.offload_optimizer.ratio",
        CPU,
    ),
    (
        ["stage=3", "offload=cpu", "offload.offload_optimizer.super_offload=true"],
        "offload.offload_optimizer.super_offload",
        CPU,
    ),
    (["offload.nvme_path=/nvme"], "offload.nvme_path", CPU),
    (["offload.pin_memory=false"], "offload.pin_memory", CPU),
    (["offload.aio.queue_depth=8"], "offload.aio.queue_depth", CPU),
    (
        ["stage=3", "offload=cpu", "offload.offload_param.buffer_count=5"],
        "offload.offload_param.buffer_count",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "model=llama3_1b", "offload.offload_param.buffer_count=3"],
        "offload.offload_param.buffer_count",
        ONE_GPU,
    ),
    (
        [
            "stage=3",
            "offload=nvme",
            "model=llama3_1b",
            "offload.offload_param.buffer_count=12",
            "stage.stage3_max_reuse_distance=1e9",
        ],
        "offload.offload_param.buffer_count",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=nvme", "model=llama3_1b", "offload.offload_param.buffer_size=1e8"],
        "offload.offload_param.buffer_size",
        ONE_GPU,
    ),
    (
        ["stage=3", "offload=nvme", "stage.stage3_prefetch_bucket_size=5e7"],
        "stage.stage3_prefetch_bucket_size",
        CPU,
    ),
    (
        [
            "stage=3",
            "offload=nvme",
            "offload.offload_optimizer.fast_init=true",
            "model.config.hidden_size=90",
        ],
        "offload.offload_optimizer.fast_init",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "train.gradient_checkpointing=true"],
        "train.gradient_checkpointing",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "offload.offload_optimizer.buffer_count=3"],
        "offload.offload_optimizer.buffer_count",
        CPU,
    ),
    (["stage=3", "offload=nvme", "stage.sub_group_size=1e9"], "stage.sub_group_size", CPU),
    (
        ["stage=3", "offload=nvme", "stage.stage3_param_persistence_threshold=1e9"],
        "stage.stage3_param_persistence_threshold",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "model.name_or_path=org/unseen"],
        "offload.offload_param.buffer_size",
        CPU,
    ),
    (["precision=bf16", "precision.fp16.initial_scale_power=8"], "precision.fp16.initial_scale_power", CPU),
    (
        ["precision=fp16", "precision.bf16.check_grad_overflow=false"],
        "precision.bf16.check_grad_overflow",
        CPU,
    ),
    (
        ["precision=fp16", "precision.fp16.loss_scale=128", "precision.fp16.hysteresis=2"],
        "precision.fp16.hysteresis",
        CPU,
    ),
    (["precision=tf32"], "precision", CPU),
    (["precision=bf16"], "precision", OLD_GPU),
    (["stage=0", "precision=bf16", "precision.grad_accum_dtype=fp32"], "precision.grad_accum_dtype", CPU),
    (["stage=0", "precision=fp16"], "precision", CPU),
    (["optimizer=adamw", "optimizer.optim=adamw_torch"], "optimizer", CPU),
    (["scheduler=linear", "scheduler.type=WarmupLR"], "scheduler", CPU),
    (["scheduler=warmup", "optimizer=adamw_torch"], "scheduler.type", CPU),
    (["offload=cpu_optimizer", "optimizer=adamw_torch"], "optimizer.optim", CPU),
    (["offload=cpu_optimizer", "optimizer.torch_adam=true"], "optimizer.torch_adam", CPU),
    (["optimizer=adamw_torch", "optimizer.torch_adam=true"], "optimizer.torch_adam", CPU),
    (["data.eval_fraction=0", "train.eval_strategy=steps"], "train.eval_strategy", CPU),
    (
        ["train.load_best_model_at_end=true", "train.eval_strategy=epoch", "checkpoint=default"],
        "train.load_best_model_at_end",
        CPU,
    ),
    (["train.use_liger_kernel=true", "train.torch_compile=true"], "train.torch_compile", CPU),
    (["batch.train_batch_size=24"], "batch.train_batch_size", CPU),
    (["launcher.device=cuda"], "launcher.device", CPU),
    (["launcher.nproc_per_node=2"], "launcher.nproc_per_node", ONE_GPU),
    (["launcher=inprocess", "launcher.nproc_per_node=2"], "launcher.nproc_per_node", CPU),
    (["model=tiny", "model.name_or_path=Qwen/Qwen2.5-0.5B"], "model.config", CPU),
    (["model=pretrained"], "model.name_or_path", CPU),
    (["data.max_length=4096"], "data.max_length", CPU),
    (["data=files"], "data.path", CPU),
    (["data.path=/no/such/file.jsonl"], "data.path", CPU),
    (["model.name_or_path=/no/such/model"], "model.name_or_path", CPU),
]


@pytest.mark.parametrize(("overrides", "key", "hardware"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_rule_refuses_and_names_the_key(overrides: list[str], key: str, hardware: Hardware) -> None:
    problems = problems_of(*overrides, hardware=hardware)
    assert key in [problem.key for problem in problems]
    assert all(problem.reason for problem in problems)


NAMES_A_FILE = ("data.path", "model.name_or_path", "model.config", "offload.offload_param.buffer_size")
MENDABLE = [row for row in REFUSED if row[1] not in NAMES_A_FILE]


@pytest.mark.parametrize(
    ("overrides", "key", "hardware"), MENDABLE, ids=[" ".join(row[0]) for row in MENDABLE]
)
def test_the_fix_of_a_rule_compiles(overrides: list[str], key: str, hardware: Hardware) -> None:
    problem = next(found for found in problems_of(*overrides, hardware=hardware) if found.key == key)
    for fix in problem.fix.split(", or "):
        mended = _replace(overrides, fix.split())
        assert key not in [left.key for left in problems_of(*mended, hardware=hardware)], fix


def _replace(overrides: list[str], fixes: list[str]) -> list[str]:
    fixed = {fix.partition("=")[0] for fix in fixes}
    return [override for override in overrides if override.partition("=")[0] not in fixed] + fixes


def test_problems_of_several_rules_are_reported_together() -> None:
    problems = problems_of(
        "stage=2", "offload=nvme", "precision=bf16", "precision.fp16.initial_scale_power=8"
    )
    assert {problem.key for problem in problems} == {
        "offload.offload_optimizer.device",
        "offload.offload_param.device",
        "precision.fp16.initial_scale_power",
    }


VALID = [
    (stage, offload)
    for stage, offloads in {
        0: ["none"],
        1: ["none", "cpu_optimizer"],
        2: ["none", "cpu_optimizer"],
        3: ["none", "cpu", "cpu_optimizer", "nvme", "nvme_optimizer"],
    }.items()
    for offload in offloads
]


@pytest.mark.parametrize(
    ("stage", "offload", "precision"),
    [
        (stage, offload, precision)
        for stage, offload in VALID
        for precision in ("fp32", "bf16", "fp16", "tf32")
        if (stage, precision) != (0, "fp16")  # refused, above
    ],
)
def test_every_valid_combination_compiles_on_a_gpu(stage: int, offload: str, precision: str) -> None:
    overrides = (f"stage={stage}", f"offload={offload}", f"precision={precision}")
    zero = plan_of(*overrides, hardware=ONE_GPU).ds_config["zero_optimization"]
    assert zero["stage"] == stage
    assert ("offload_param" in zero) == (offload in ("cpu", "nvme"))
    assert ("offload_optimizer" in zero) == (offload != "none")


def test_unused_blocks_of_the_schema_are_not_warned_about() -> None:
    assert [notice.key for notice in plan_of().notices] == ["model"]
