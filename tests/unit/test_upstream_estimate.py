"""DeepSpeed's estimates, as its documentation prints them and as the installed functions compute them."""

import random
from collections.abc import Callable, Iterator

import pytest

from tests.support.planning import H200, gpus, plan_of
from zpipe.memory.upstream_estimate import Estimate, upstream_estimate, zero2_estimate, zero3_estimate

T0_3B = (2_783_959_040, 65_798_144)
"""Parameters, and those of the largest module, in the example of DeepSpeed's documentation."""
DOCUMENTED = [
    ({"cpu_offload": True, "cpu_offload_params": True, "zero_init": True}, (70.00, 0.25)),
    ({"cpu_offload": True, "cpu_offload_params": True, "zero_init": False}, (70.00, 0.25)),
    ({"cpu_offload": True, "cpu_offload_params": False, "zero_init": True}, (62.23, 5.43)),
    ({"cpu_offload": True, "cpu_offload_params": False, "zero_init": False}, (62.23, 5.43)),
    ({"cpu_offload": False, "cpu_offload_params": False, "zero_init": True}, (0.37, 46.91)),
    ({"cpu_offload": False, "cpu_offload_params": False, "zero_init": False}, (15.56, 46.91)),
]
FOUR = gpus(*[H200] * 4)


def _shapes() -> Iterator[tuple[int, int, int, int]]:
    """Parameters, those of the largest module, GPUs of a node, nodes."""
    chosen = random.Random(0)
    for _ in range(20):
        parameters = chosen.randrange(10**6, 10**12)
        per_node, nodes = chosen.randrange(1, 9), chosen.choice([1, 2, 3, 16, 64])
        yield parameters, parameters // chosen.randrange(2, 200), per_node, nodes


@pytest.mark.parametrize(("options", "printed"), DOCUMENTED)
def test_estimates_are_those_that_the_documentation_prints(
    options: dict[str, bool], printed: tuple[float, float]
) -> None:
    estimate = zero3_estimate(*T0_3B, **options)
    assert (f"{estimate.host / 2**30:.2f}", f"{estimate.gpu / 2**30:.2f}") == tuple(
        f"{each:.2f}" for each in printed
    )


def test_estimates_of_stage_2_are_those_of_the_installed_deepspeed() -> None:
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as theirs

    for parameters, _, per_node, nodes in _shapes():
        for offload in (True, False):
            ours = zero2_estimate(parameters, per_node, nodes, cpu_offload=offload)
            assert tuple(ours) == theirs(parameters, per_node, nodes, cpu_offload=offload)


def test_estimates_of_stage_3_are_those_of_the_installed_deepspeed() -> None:
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as theirs

    for shape in _shapes():
        for options, _ in DOCUMENTED:
            host, gpu, _ = theirs(*shape, **options)
            assert zero3_estimate(*shape, **options) == (host, gpu)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["stage=2"], lambda size, _: zero2_estimate(size, 4, cpu_offload=False)),
        (["stage=2", "offload=cpu_optimizer"], lambda size, _: zero2_estimate(size, 4)),
        (["stage=3"], lambda size, most: zero3_estimate(size, most, 4, cpu_offload=False)),
        (
            ["stage=3", "offload=cpu_optimizer"],
            lambda size, most: zero3_estimate(size, most, 4, cpu_offload_params=False),
        ),
        (["stage=3", "offload=cpu"], lambda size, most: zero3_estimate(size, most, 4)),
        (["stage=1"], lambda *_: None),
        (["stage=3", "offload=nvme"], lambda *_: None),
    ],
)
def test_estimate_of_a_plan_is_that_for_its_stage_and_offload(
    overrides: list[str], expected: Callable[[int, int], Estimate | None]
) -> None:
    plan = plan_of("model=llama3_1b", *overrides, hardware=FOUR)
    most = 128256 * 2048
    assert plan.model.parameters is not None
    assert plan.model.largest_module == most
    assert upstream_estimate(plan) == expected(plan.model.parameters, most)
