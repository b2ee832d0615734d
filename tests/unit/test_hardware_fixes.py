"""Each fix of a refused machine, applied, solves its problem and brings no other one."""

from itertools import product

import pytest

from tests.support.planning import CPU, H200, gpus, plan_of
from zpipe.machine.hardware import Hardware
from zpipe.problems import Fix, Problem, Refusal
from zpipe.running.this_machine import not_this_machine

HERE = {"no GPU": CPU, "two H200": gpus(H200, H200)}
INVALID = "hardware.gpus_per_node=2000"
NUMBERS = ("", "hardware.gpus_per_node=0", "hardware.gpus_per_node=4", INVALID)
CARDS = (
    (),
    ("hardware=h200",),
    ("hardware=l4", "hardware.cores=999"),
    ("hardware.name='NVIDIA L4'",),
    ("hardware.name=GPU",),
    ("hardware.name=GPU", "hardware.gpu_memory_gib=24"),
    ("hardware.gpu_memory_gib=24",),
    ("hardware.gpu_memory_gib=500",),
    ("hardware.compute_capability=12.0", "hardware.tflops.bf16=100"),
    ("hardware.host_memory_gib=9999",),
)
POD = (
    "launcher=kubeflow",
    "launcher.kubeflow.image=registry.example/zpipe:1",
    "launcher.kubeflow.volumes=['runs:/shared']",
    "tracking=none",
)
LAUNCHERS = {
    "here": (),
    "a job": ("launcher=slurm",),
    "a job with GPUs": ("launcher=slurm", "launcher.slurm.gpus=8xH100"),
    "a pod": POD,
    "a pod with GPUs": (*POD, "launcher.kubeflow.gpus=2xL4"),
}


def _problems(overrides: tuple[str, ...], here: Hardware) -> list[Problem]:
    """Those of the plan."""
    try:
        plan_of("precision=fp32", *overrides, hardware=here)
    except Refusal as refusal:
        return list(refusal.problems)
    return []


def _problems_of_a_run(overrides: tuple[str, ...], here: Hardware) -> list[Problem]:
    """Those of the plan, or of starting it on this machine."""
    return _problems(overrides, here) or not_this_machine(
        plan_of("precision=fp32", *overrides, hardware=here), here
    )


def _applied(overrides: tuple[str, ...], fix: str) -> tuple[str, ...]:
    replaced = {each.partition("=")[0] for each in fix.split()}
    return (*(each for each in overrides if each.partition("=")[0] not in replaced), *fix.split())


def _assert_fixes_solve(overrides: tuple[str, ...], here: Hardware) -> None:
    is_planned = not _problems(overrides, here)
    problems_of = _problems_of_a_run if is_planned else _problems
    problems = problems_of(overrides, here)
    keys = {problem.key for problem in problems}
    if INVALID in overrides:  # nothing else was asked then
        keys |= {each.key for each in _problems(_applied(overrides, "hardware.gpus_per_node=4"), here)}
    for problem in problems:
        assert isinstance(problem.fix, Fix), (overrides, problem)
        for fix in problem.fix.alternatives:
            left = {each.key for each in problems_of(_applied(overrides, fix), here)}
            assert problem.key not in left, f"{overrides}: {fix}"
            assert left <= keys, f"{overrides}: {fix} leads to {left - keys}"


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("machine", HERE)
def test_fixes_of_a_refused_machine_solve_it_and_bring_no_other_problem(machine: str, launcher: str) -> None:
    for number, card in product(NUMBERS, CARDS):
        _assert_fixes_solve(tuple(filter(None, (*LAUNCHERS[launcher], *card, number))), HERE[machine])


def test_a_machine_that_is_described_by_an_option_is_replaced_by_this_one() -> None:
    (first, *_) = _problems_of_a_run(("hardware=h200", "hardware.cores=999"), CPU)
    assert isinstance(first.fix, Fix)
    assert first.fix.alternatives == ("hardware=here hardware.cores=null",)


def test_the_number_of_a_request_is_proposed_for_the_same_card() -> None:
    (problem,) = _problems(
        ("hardware=h100_80gb", "hardware.gpus_per_node=4", *LAUNCHERS["a job with GPUs"]), CPU
    )
    assert isinstance(problem.fix, Fix)
    assert problem.fix.alternatives == ("launcher.slurm.gpus=4xh100_80gb", "hardware.gpus_per_node=8")
