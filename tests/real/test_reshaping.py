"""A checkpoint that was loaded in another shape has the same master weights and optimizer states."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Job, run_jobs
from zpipe.train.safe_loading import load_restricted
from zpipe.train.shards import MASTER, Shards

pytestmark = pytest.mark.real

STAGES = (1, 2, 3)
OPTIMIZERS = ("SGD", "NAdam")
GRAD_ACCUM_FP32 = {"data_types": {"grad_accum_dtype": "fp32"}}
"""With bf16 at stage 1, DeepSpeed then wraps the optimizer in another class."""

ON_TWO = (
    *(Job(f"two-{stage}", stage) for stage in STAGES),
    Job("two-bf16", 2, "bf16"),
    Job("two-wrapped", 1, "bf16", config=GRAD_ACCUM_FP32),
    Job("two-offloaded", 3, offload=True),
    Job("two-aligned", 2, config={"zero_optimization": {"stage": 2, "parameter_alignment": True}}),
    Job("two-round-robin", 2, config={"zero_optimization": {"stage": 2, "round_robin_gradients": True}}),
    *(Job(f"two-{name}", 2, optimizer=name) for name in OPTIMIZERS),
)
ON_ONE = (
    *(Job(f"one-{new}-of-{old}", new, load=f"two-{old}") for old in STAGES for new in STAGES),
    *(Job(f"one-{stage}-bf16", stage, "bf16", load="two-bf16") for stage in STAGES),
    Job("one-of-wrapped", 3, "bf16", load="two-wrapped"),
    Job("one-offloaded", 3, load="two-offloaded", offload=True),
    Job("one-of-aligned", 2, load="two-aligned"),
    Job("one-of-round-robin", 3, load="two-round-robin"),
    *(Job(f"one-{name}", 3, optimizer=name, load=f"two-{name}") for name in OPTIMIZERS),
)
BACK_ON_TWO = (
    *(Job(f"back-{stage}", stage, load=f"one-{stage}-of-{stage}") for stage in STAGES),
    Job("other-3", 3, load="two-2"),
    Job("other-2", 2, load="two-3"),
    Job("other-1", 1, load="two-2"),
    Job("back-wrapped", 1, "bf16", load="one-of-wrapped", config=GRAD_ACCUM_FP32),
    Job("back-offloaded", 3, load="one-offloaded", offload=True),
    Job("back-aligned", 2, load="one-of-aligned", config=ON_TWO[6].config),
)
RESHAPED = (*ON_ONE, *BACK_ON_TWO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks saved, what one rank saved after it had loaded that, and the same on two ranks again."""
    path = tmp_path_factory.mktemp("engines")
    for ranks, jobs in ((2, ON_TWO), (1, ON_ONE), (2, BACK_ON_TWO)):
        run_jobs(path, ranks, jobs)
    return path


def contents(shards: Shards) -> dict[str, Any]:
    """Everything that the shards hold of each parameter."""
    keys = (MASTER, *shards.state_names())
    found: dict[str, Any] = {
        f"{name}.{key}": shards.state(name, key) for name in shards.names() for key in keys
    }
    found |= {f"{name} values": shards.values(name) for name in shards.names()}
    # DeepSpeed keeps buffers in the precision of the model at stages 1 and 2, and as they are at stage 3.
    found |= {name: value.float() for name, value in shards.buffers().items()}
    return found | {"settings": shards.settings()}


def differing(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    import torch

    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else str(value) == str(other[name])
        if not same:
            yield name


@pytest.mark.parametrize("job", RESHAPED, ids=lambda job: job.folder)
def test_nothing_changes_when_a_checkpoint_is_loaded_in_another_shape(job: Job, folder: Path) -> None:
    source, target = Shards(folder / str(job.load)), Shards(folder / job.folder)
    assert len(source.names()) == 4
    assert any(value.any() for name in source.names() for value in [source.master(name)])
    assert list(differing(contents(source), contents(target))) == []


@pytest.mark.parametrize("job", RESHAPED, ids=lambda job: job.folder)
def test_counters_and_scheduler_go_on(job: Job, folder: Path) -> None:
    names = ("global_steps", "global_samples", "skipped_steps", "lr_scheduler")
    source, target = (Shards(folder / str(each)).model_states[0] for each in (job.load, job.folder))
    assert {name: target[name] for name in names} == {name: source[name] for name in names}
    assert target["global_steps"] == 2


def test_weights_of_the_model_are_the_master_weights_in_its_precision(folder: Path) -> None:
    import torch

    shards = Shards(folder / "one-2-bf16")
    module = load_restricted(str(shards.folder / "mp_rank_00_model_states.pt"), "cpu")["module"]
    for name in shards.names():
        assert torch.equal(module[name], shards.master(name).bfloat16())
