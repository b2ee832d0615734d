"""Plans that do not fit are refused with plans that do, and no plan that may fit is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.planning import GIB, H200, gpus, plan_of, problems_of
from tests.support.predictions import BAND, prediction, simple_prediction
from zpipe.facts.facts import Facts
from zpipe.machine.hardware import Gpu
from zpipe.memory.verdict import verdict
from zpipe.plans.memory import MemoryPrediction
from zpipe.problems import Fix, Problem
from zpipe.schema.experiment import Experiment

SMALL = Gpu(name="NVIDIA A10", memory=24 * GIB, compute_capability=(8, 6))
ONE, TWO = gpus(SMALL), gpus(SMALL, SMALL)
LLAMA_1B = ("model=llama3_1b", "data.max_length=2048", "batch.per_device_train_batch_size=16")
QUEUED = {
    "slurm": [],
    "kubeflow": [
        "launcher.kubeflow.image=registry.example/zpipe:1",
        "launcher.kubeflow.volumes=['runs:/shared']",
        "tracking=none",
    ],
}
CHECKPOINTED = "train.gradient_checkpointing=true"


@pytest.fixture(autouse=True)
def simple_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums that a reader can follow: the model of zpipe has tests of its own."""
    _predict(monkeypatch, simple_prediction)
    yield


def _predict(
    monkeypatch: pytest.MonkeyPatch, function: Callable[[Experiment, Facts], MemoryPrediction | None]
) -> None:
    def with_the_allocator(
        experiment: Experiment, facts: Facts, *, reserves: bool = True
    ) -> MemoryPrediction | None:
        return function(experiment, facts) if reserves else None

    for module in ("zpipe.checks.memory", "zpipe.compile.compiler"):
        monkeypatch.setattr(f"{module}.predict_memory", with_the_allocator)


def _fixes(problem: Problem) -> tuple[str, ...]:
    assert isinstance(problem.fix, Fix)
    return problem.fix.alternatives


def with_overrides(overrides: tuple[str, ...], fix: str) -> list[str]:
    replaced = {each.partition("=")[0] for each in fix.split()}
    return [each for each in overrides if each.partition("=")[0] not in replaced] + fix.split()


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0, "fits"), (95, "fits"), (96, "tight"), (100, "tight"), (105, "tight"), (106, "does not fit")],
)
def test_error_of_the_prediction_counts_in_favor_of_the_run(used: int, expected: str) -> None:
    assert verdict(used, 100, BAND, BAND) == expected


@pytest.mark.parametrize(
    ("used", "expected"), [(98, "fits"), (99, "tight"), (105, "tight"), (106, "does not fit")]
)
def test_a_plan_fits_with_a_smaller_margin_where_runs_used_little_more_than_predicted(
    used: int, expected: str
) -> None:
    assert verdict(used, 100, BAND, 0.02) == expected


def test_refusal_names_the_peak_the_limit_and_the_largest_terms() -> None:
    (problem,) = problems_of(*LLAMA_1B, hardware=ONE)
    assert (problem.key, problem.value) == ("memory.check", "refuse")
    assert "the fullest GPU is predicted to need 52.4 GiB (±5%) and has 23.7 GiB" in problem.reason
    assert "activations 34.0 GiB, optimizer states 13.8 GiB, parameters 4.6 GiB" in problem.reason
    assert problem.allowed == "at most 23.7 GiB"


PROPOSED = {
    "activations are too large": (
        LLAMA_1B,
        ONE,
        [
            "batch.per_device_train_batch_size=1 batch.gradient_accumulation_steps=16",
            CHECKPOINTED,
            "batch.per_device_train_batch_size=8 batch.gradient_accumulation_steps=2 offload=cpu_optimizer",
        ],
    ),
    "states are too large": (
        ("model=llama3_3b", "batch.per_device_train_batch_size=2", "data.max_length=2048"),
        ONE,
        [
            "stage=3 offload=cpu",
            "batch.per_device_train_batch_size=1 batch.gradient_accumulation_steps=2 offload=cpu_optimizer",
            f"{CHECKPOINTED} offload=cpu_optimizer",
        ],
    ),
    "two GPUs could share the states": (
        ("model=llama3_1b", "stage=0", "precision=bf16", "batch.per_device_train_batch_size=8"),
        TWO,
        [
            "batch.per_device_train_batch_size=2 batch.gradient_accumulation_steps=4",
            CHECKPOINTED,
            "stage=1",
        ],
    ),
    "the new stage ignores a setting": (
        ("model=llama3_8b", "stage=2", "stage.round_robin_gradients=true", CHECKPOINTED),
        gpus(*[SMALL] * 8),
        [
            "stage=3 stage.round_robin_gradients=null",
            "stage=3 offload=cpu_optimizer stage.round_robin_gradients=null",
        ],
    ),
    "the host is too small": (
        ("model=llama3_8b", "stage=3", "offload=cpu", CHECKPOINTED),
        replace(ONE, memory=64 * GIB, free_disk=lambda _: 10_000 * GIB),
        ["offload=nvme"],
    ),
}


@pytest.mark.parametrize("case", PROPOSED)
def test_proposed_plans_are_the_nearest_that_fit(case: str) -> None:
    overrides, hardware, expected = PROPOSED[case]
    (problem,) = problems_of(*overrides, hardware=hardware)
    assert list(_fixes(problem)) == expected
    unchecked = plan_of(*overrides, "memory.check=warn", hardware=hardware)
    for fix in _fixes(problem):
        plan = plan_of(*with_overrides(overrides, fix), hardware=hardware)
        assert {fit.verdict for fit in plan.memory_fits} == {"fits"}
        assert plan.tokens_per_step == unchecked.tokens_per_step


def test_warning_instead_of_a_refusal_is_a_setting() -> None:
    plan = plan_of(*LLAMA_1B, "memory.check=warn", hardware=ONE)
    (notice,) = [each for each in plan.notices if each.key == "memory.check"]
    assert notice.level == "warning"
    assert notice.text.startswith("does not fit: the fullest GPU is predicted to need 52.4 GiB")
    assert [fit.verdict for fit in plan.memory_fits] == ["does not fit", "fits"]


def test_a_plan_that_may_fit_is_not_refused_and_says_so() -> None:
    plan = plan_of(*LLAMA_1B, hardware=gpus(replace(SMALL, memory=52 * GIB)))
    (notice,) = [each for each in plan.notices if each.key == "memory.check"]
    assert notice.text.startswith("tight: ")


def test_a_plan_that_fits_has_its_prediction_and_no_warning() -> None:
    plan = plan_of(*LLAMA_1B, hardware=gpus(H200))
    assert plan.memory is not None
    assert [(fit.resource, fit.verdict) for fit in plan.memory_fits] == [("GPU", "fits"), ("host", "fits")]
    assert "memory.check" not in [each.key for each in plan.notices]


def test_memory_that_other_processes_hold_is_not_there() -> None:
    held = replace(SMALL, memory=80 * GIB, used=40 * GIB)
    (problem,) = problems_of(*LLAMA_1B, hardware=gpus(held))
    assert "beside 40.0 GiB that other processes hold" in problem.reason


def test_fullest_gpu_of_those_that_are_used_counts() -> None:
    full, unused = replace(H200, used=120 * GIB), replace(H200, used=140 * GIB)
    overrides = (*LLAMA_1B, "stage=1", "launcher.nproc_per_node=2")
    (fit, _) = plan_of(*overrides, "memory.check=warn", hardware=gpus(H200, full, unused)).memory_fits
    assert fit.held == 120 * GIB


def test_a_plan_with_other_problems_is_refused_for_these() -> None:
    assert [each.key for each in problems_of(*LLAMA_1B, "offload=nvme", hardware=ONE)] == [
        "offload.offload_optimizer.device",
        "offload.offload_param.device",
    ]


def test_a_plan_that_fits_nowhere_near_can_be_started_without_the_check() -> None:
    (problem,) = problems_of(
        "model=llama3_70b", "data.max_length=8192", hardware=gpus(replace(SMALL, memory=GIB))
    )
    assert _fixes(problem) == ("memory.check=warn",)


def test_a_model_without_a_prediction_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _predict(monkeypatch, lambda experiment, facts: None)
    plan = plan_of(*LLAMA_1B, hardware=ONE)
    assert (plan.memory, plan.memory_fits) == (None, [])


@pytest.mark.parametrize("launcher", QUEUED)
def test_memory_of_nodes_in_a_queue_is_not_that_of_this_machine(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _predict(monkeypatch, lambda experiment, facts: prediction(None, 1000.0))
    plan = plan_of(f"launcher={launcher}", *QUEUED[launcher], run_dir=Path("/shared/runs/one"))
    assert plan.memory_fits == []


def test_swap_files_count_against_the_room_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _predict(monkeypatch, lambda experiment, facts: prediction(10.0, disk_gib=100.0))
    hardware = replace(gpus(H200), free_disk=lambda _: 50 * GIB)
    (problem,) = problems_of("stage=3", "offload=nvme", "checkpoint=none", hardware=hardware)
    assert "the disk is predicted to need 100.0 GiB" in problem.reason


def test_a_refusal_with_all_its_proposals_predicts_few_plans() -> None:
    count = 0

    def counted(experiment: Experiment, facts: Facts) -> MemoryPrediction | None:
        nonlocal count
        count += 1
        return simple_prediction(experiment, facts)

    with pytest.MonkeyPatch.context() as patched:
        _predict(patched, counted)
        (problem,) = problems_of(*LLAMA_1B[:-1], "batch.per_device_train_batch_size=96", hardware=ONE)
    assert problem.fix
    assert count < 150


def test_a_changed_batch_changes_what_is_predicted() -> None:
    seen: list[tuple[int, int]] = []

    def noted(experiment: Experiment, facts: Facts) -> MemoryPrediction | None:
        seen.append((facts.micro_batch, facts.accumulation))
        return simple_prediction(experiment, facts)

    with pytest.MonkeyPatch.context() as patched:
        _predict(patched, noted)
        problems_of(*LLAMA_1B, hardware=ONE)
    assert seen[:4] == [(16, 1), (8, 2), (4, 4), (2, 8)]


def test_the_memory_of_a_plan_is_predicted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Experiment] = []

    def noted(experiment: Experiment, facts: Facts) -> MemoryPrediction | None:
        seen.append(experiment)
        return simple_prediction(experiment, facts)

    _predict(monkeypatch, noted)
    plan = plan_of(*LLAMA_1B, hardware=gpus(replace(SMALL, memory=52 * GIB)))
    assert "memory.check" in [notice.key for notice in plan.notices]
    assert seen == [plan.experiment]


@pytest.mark.parametrize(
    ("disk", "is_proposed"),
    [
        ([], False),
        (["hardware.nvme_gib=3576"], True),
        (["hardware.nvme_read_gb_s=6.5"], True),
        (["offload.nvme_path=/scratch"], True),
    ],
)
def test_swap_files_are_proposed_only_where_a_disk_is_known(disk: list[str], is_proposed: bool) -> None:
    described = ("hardware.host_memory_gib=64", "hardware.cores=999", *disk)
    (problem,) = problems_of(
        "model=llama3_8b", "stage=3", "offload=cpu", CHECKPOINTED, *described, hardware=ONE
    )
    assert any("nvme" in fix for fix in _fixes(problem)) == is_proposed
