"""Every rule refuses what it is for, names the key, and its fix is accepted."""

from pathlib import Path

import pytest

from tests.support.planning import CPU, experiment_of, plan_of, problems_of
from tests.support.refused import FOUR_GPUS, ONE_GPU, REFUSED
from zpipe import checks
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.problems import Refusal


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


def test_a_path_beside_the_standard_library_is_read_once_the_source_is_files(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("one example")
    (problem,) = problems_of("data=python_stdlib", f"data.path={file}")
    assert problem.key == "data.path"
    assert problems_of(problem.fix, f"data.path={file}") == []


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


@pytest.mark.parametrize("setting", ["train.adam_beta1=0.8", "train.adam_epsilon=1e-6"])
def test_what_an_optimizer_of_transformers_does_not_take_is_refused(setting: str) -> None:
    (problem,) = problems_of("optimizer=adafactor", setting)
    assert problem.key == setting.partition("=")[0]
    assert problem.reason.startswith("adafactor takes no")
    assert problems_of("optimizer=adafactor", problem.fix) == []


NOTICED = [
    (["stage=3", "offload=nvme"], "warning", "offload.nvme_path", CPU),
    (["stage=3", "offload=nvme"], "info", "offload", CPU),
    (
        ["stage=3", "offload=nvme", "offload.offload_param.max_in_cpu=1e9"],
        "warning",
        "offload.offload_param.max_in_cpu",
        CPU,
    ),
    (
        ["stage=3", "offload=nvme", "model.config.hidden_size=64", "model.config.intermediate_size=128"],
        "warning",
        "offload.offload_param.device",
        CPU,
    ),
    (
        ["precision=bf16", "precision.bf16.check_grad_overflow=false"],
        "warning",
        "precision.bf16.check_grad_overflow",
        CPU,
    ),
    (
        ["precision=bf16", "batch.gradient_accumulation_steps=8"],
        "advice",
        "precision.data_types.grad_accum_dtype",
        CPU,
    ),
    (["stage.reduce_bucket_size=5e8"], "advice", "stage.reduce_bucket_size", ONE_GPU),
    (["offload=cpu_optimizer"], "advice", "stage.round_robin_gradients", FOUR_GPUS),
    (["optimizer=adafactor"], "warning", "optimizer", CPU),
    (["optimizer=lamb"], "warning", "optimizer", ONE_GPU),
    (["scheduler=one_cycle"], "warning", "train.warmup_steps", CPU),
    (["scheduler=one_cycle"], "warning", "scheduler.params.cycle_momentum", CPU),
    (["scheduler=warmup", "train.warmup_steps=0"], "info", "train.warmup_steps", CPU),
    (["train.max_steps=9"], "warning", "train.warmup_steps", CPU),
    (["profiler=wall_clock"], "advice", "profiler.wall_clock_breakdown", CPU),
]


@pytest.mark.parametrize(
    ("overrides", "level", "key", "hardware"), NOTICED, ids=[f"{row[1]} {row[2]}" for row in NOTICED]
)
def test_what_is_worth_knowing_is_said_and_nothing_else_is_refused(
    overrides: list[str], level: str, key: str, hardware: Hardware
) -> None:
    notices = plan_of(*overrides, hardware=hardware).notices
    assert (level, key) in [(notice.level, notice.key) for notice in notices]


def test_a_model_trained_in_bf16_is_warned_of_fp16(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8, "dtype": "bfloat16"}')
    overrides = (f"model.name_or_path={tmp_path}", "model.tokenizer=bytes")
    in_fp16 = plan_of(*overrides, "precision=fp16", hardware=ONE_GPU).notices
    assert ("warning", "precision") in [(notice.level, notice.key) for notice in in_fp16]
    in_bf16 = plan_of(*overrides, "precision=bf16", hardware=ONE_GPU).notices
    assert "precision" not in [notice.key for notice in in_bf16]


def test_every_rule_has_an_example_that_it_refuses() -> None:
    silent = set(checks.ERRORS)
    for overrides, _, hardware in REFUSED:
        try:
            experiment = experiment_of(*overrides)
            facts = gather(experiment, hardware)
        except Refusal:
            continue  # refused before any rule
        silent -= {rule for rule in silent if any(True for _ in rule(experiment, facts))}
    assert sorted(rule.__name__ for rule in silent) == []


def test_a_batch_size_that_divides_gives_the_accumulation() -> None:
    config = plan_of(
        "batch.train_batch_size=256", "batch.per_device_train_batch_size=8", hardware=FOUR_GPUS
    ).ds_config
    assert config["gradient_accumulation_steps"] == 8
    assert config["train_batch_size"] == 256
