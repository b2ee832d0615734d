"""Every rule refuses what it is for, names the key, and its fix is accepted."""

import pytest

from tests.support.planning import plan_of, problems_of
from tests.support.refused import ONE_GPU, REFUSED
from zpipe.facts.hardware import Hardware


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


@pytest.mark.parametrize("setting", ["train.adam_beta1=0.8", "train.adam_epsilon=1e-6"])
def test_what_an_optimizer_of_transformers_does_not_take_is_refused(setting: str) -> None:
    (problem,) = problems_of("optimizer=adafactor", setting)
    assert problem.key == setting.partition("=")[0]
    assert problem.reason.startswith("adafactor takes no")
    assert problems_of("optimizer=adafactor", problem.fix) == []
