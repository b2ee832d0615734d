"""An option that a refusal proposes is in effect also beside a key that would outweigh it."""

import pytest

from tests.support.planning import CPU, V100, gpus, problems_of
from tests.support.refused import ONE_GPU, REFUSED
from zpipe.hydra_text import plain_text
from zpipe.machine.hardware import Hardware
from zpipe.problems import Fix, Problem
from zpipe.resources import config_groups
from zpipe.schema.options import DECIDING, deciding_values

BY_KEYS = [
    (["stage=auto", "stage.stage=1", "offload=nvme", "model=llama3_1b"], "stage=3 stage.stage=3", ONE_GPU),
    (["stage.stage=2", "offload=nvme"], "stage=3 stage.stage=3", CPU),
    (
        ["offload=cpu_optimizer", "offload.offload_param.device=cpu"],
        "offload=cpu_optimizer offload.offload_param.device=none",
        CPU,
    ),
    (
        ["kernels=none", "kernels.liger=true", "compile=regional"],
        "kernels=fused_loss kernels.liger=loss",
        ONE_GPU,
    ),
    (
        ["compile=regional", "compile.regional=true", "kernels=liger"],
        "compile=none compile.regional=null",
        ONE_GPU,
    ),
    (
        ["activation_checkpointing=deepspeed", "train.gradient_checkpointing=true"],
        "activation_checkpointing=transformers",
        CPU,
    ),
    (["precision.dtype=bf16", "stage=0"], "stage=1 precision=fp16 precision.dtype=fp16", gpus(V100)),
    (["stage=auto", "stage.stage=0", "offload=cpu_optimizer"], "stage=2 stage.stage=2", CPU),
]


@pytest.mark.parametrize(("overrides", "fix", "hardware"), BY_KEYS)
def test_a_fix_sets_the_key_that_would_outweigh_it(
    overrides: list[str], fix: str, hardware: Hardware
) -> None:
    problems = problems_of(*overrides, hardware=hardware)
    assert fix in [each for problem in problems for each in _alternatives(problem)]


def _keys_of(overrides: list[str]) -> list[str]:
    """The keys that distinguish the chosen options, with their values."""
    return [text for override in overrides for text in _keys(override)]


def _keys(override: str) -> list[str]:
    group, _, option = override.partition("=")
    is_known = group in DECIDING and option in config_groups()[group]
    values = deciding_values(group, option) if is_known else {}
    return [f"{key}={plain_text(value)}" for key, value in values.items()]


def _kind(overrides: list[str], key: str) -> tuple[str, ...]:
    groups = {override.partition("=")[0] for override in overrides if _keys(override)}
    return (key.partition(".")[0], *sorted(groups))


ONE_OF_EACH_KIND = {
    _kind(overrides, key): (overrides, hardware)
    for overrides, key, hardware in REFUSED
    if _keys_of(overrides)
}
ROWS = [*((overrides, hardware) for overrides, _, hardware in BY_KEYS), *ONE_OF_EACH_KIND.values()]


@pytest.mark.parametrize(("overrides", "hardware"), ROWS, ids=[" ".join(row[0]) for row in ROWS])
def test_no_fix_leads_to_the_same_refusal(overrides: list[str], hardware: Hardware) -> None:
    """Neither where every option was also set by its keys."""
    typed = [*overrides, *_keys_of(overrides)]
    for problem in problems_of(*typed, hardware=hardware):
        for fix in filter(_has_an_option, _alternatives(problem)):
            left = problems_of(*typed, *fix.split(), hardware=hardware)
            assert problem[:3] not in [each[:3] for each in left], fix


def _has_an_option(fix: str) -> bool:
    return any(override.partition("=")[0] in DECIDING for override in fix.split())


def _alternatives(problem: Problem) -> tuple[str, ...]:
    return problem.fix.alternatives if isinstance(problem.fix, Fix) else ()


def test_a_key_with_the_value_of_the_option_is_not_repeated() -> None:
    (problem,) = problems_of("offload.offload_param.device=none", "stage=0", "offload=cpu_optimizer")
    assert all("offload_param" not in each for each in _alternatives(problem))


def test_a_key_that_the_plan_chose_is_not_reset() -> None:
    for problem in problems_of("stage=auto", "offload=nvme", "zeropp=hpz", hardware=ONE_GPU):
        assert "stage.stage" not in problem.fix
