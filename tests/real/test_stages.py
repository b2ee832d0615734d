"""Every valid pair of stage and offload trains for real, in bf16 on one rank and in fp32 on two."""

import math
import time
from pathlib import Path

import pytest

from tests.support.limits import small_lock_limit
from tests.support.process import SMALL, Run, start, zpipe

pytestmark = pytest.mark.real

OFFLOADS = {
    0: ["none"],
    1: ["none", "cpu_optimizer"],
    2: ["none", "cpu_optimizer"],
    3: ["none", "cpu", "cpu_optimizer", "nvme", "nvme_optimizer"],
}
PAIRS = [(stage, offload) for stage, offloads in OFFLOADS.items() for offload in offloads]
CASES = [
    *((stage, offload, "bf16", 1) for stage, offload in PAIRS),
    *((stage, offload, "fp32", 2) for stage, offload in PAIRS),
    *((stage, offload, "bf16", 2) for stage, offload in ((2, "none"), (3, "none"), (3, "cpu"), (3, "nvme"))),
    *((stage, offload, "fp32", 1) for stage, offload in ((0, "none"), (3, "nvme"))),
]

CHOICES = {
    (0, "none"): (
        "optimizer=adafactor scheduler=cosine activation_checkpointing=transformers",
        "optimizer=adagrad scheduler=warmup_decay",
    ),
    (1, "none"): (
        "optimizer=sgd scheduler=one_cycle activation_checkpointing=deepspeed",
        "optimizer=adam scheduler=warmup precision.data_types.grad_accum_dtype=fp32",
    ),
    (2, "none"): (
        "optimizer=muon scheduler=warmup_cosine activation_checkpointing=transformers",
        "optimizer=adamw_torch scheduler=warmup_decay activation_checkpointing=deepspeed",
    ),
    (3, "none"): (
        "optimizer=nadam scheduler=lr_range_test activation_checkpointing=deepspeed",
        "optimizer=rmsprop scheduler=cosine_with_min_lr stage.reduce_bucket_size=5e7",
    ),
    (1, "cpu_optimizer"): (
        "optimizer=lion scheduler=warmup",
        "optimizer=adam scheduler=inverse_sqrt stage.round_robin_gradients=true",
    ),
    (2, "cpu_optimizer"): (
        "optimizer=lion scheduler=constant activation_checkpointing=deepspeed",
        "scheduler=warmup_stable_decay scheduler.lr_scheduler_kwargs.num_decay_steps=2 "
        "activation_checkpointing=transformers offload.pin_memory=false",
    ),
    (3, "cpu"): (
        "optimizer=adam scheduler=one_cycle activation_checkpointing=deepspeed",
        "scheduler=cosine_with_restarts stage.overlap_comm=false precision.communication_data_type=fp32",
    ),
    (3, "cpu_optimizer"): ("scheduler=warmup_decay profiler=wall_clock", "optimizer=lion scheduler=cosine"),
}
"""For some, an optimizer, a scheduler and other settings: for bf16 on one rank, and for fp32 on two."""


def choices(stage: int, offload: str, precision: str, ranks: int) -> list[str]:
    on_one, on_two = CHOICES.get((stage, offload), ("", ""))
    return {("bf16", 1): on_one, ("fp32", 2): on_two}.get((precision, ranks), "").split()


@pytest.mark.parametrize(("stage", "offload", "precision", "ranks"), CASES)
def test_trains_as_planned_and_saves_a_model_that_loads(
    stage: int,
    offload: str,
    precision: str,
    ranks: int,
    text_file: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if "nvme" in offload:
        request.getfixturevalue("libaio")
    chosen = choices(stage, offload, precision, ranks)
    run = zpipe(
        tmp_path,
        *SMALL,
        f"stage={stage}",
        f"offload={offload}",
        f"precision={precision}",
        f"launcher.nproc_per_node={ranks}",
        f"data.path={text_file}",
        "train.learning_rate=1e-2",
        "tracking=none",
        "strict=true",
        *chosen,
    )
    assert run.exit_code == 0, run.explain()
    assert [event for event in run.events if event["event"] == "difference"] == []
    losses = [value for _, value in run.series("loss")]
    assert len(losses) == 4
    assert all(map(math.isfinite, losses))
    assert chosen or losses[-1] < losses[0]
    assert_model_loads(run)


def assert_model_loads(run: Run) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    with torch.no_grad():
        logits = model(torch.arange(3, 40).unsqueeze(0)).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_swap_files_exist_while_training_and_not_after(libaio: None, text_file: Path, tmp_path: Path) -> None:
    """Matrices above 1 MiB a partition, which DeepSpeed swaps; smaller ones stay in memory.

    The limit of locked memory is smaller than the swap buffers, as for an ordinary user.
    """
    swap, folder = tmp_path / "nvme", tmp_path / "run"
    process = start(
        tmp_path,
        *SMALL,
        "stage=3",
        "offload=nvme",
        "precision=bf16",
        "model.config.hidden_size=768",
        "model.config.intermediate_size=1536",
        f"offload.nvme_path={swap}",
        f"data.path={text_file}",
        "tracking=none",
        f"hydra.run.dir={folder}",
        before=small_lock_limit,
    )
    seen: set[str] = set()
    while process.poll() is None:
        seen |= {file.relative_to(swap).parts[2] for file in swap.rglob("*.swp") if file.exists()}
        time.sleep(0.05)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout + stderr
    assert {"bfloat16params", "optimizer"} <= seen
    assert "swap buffers beyond 64.0 KiB are not locked in memory" in stderr
    assert list(swap.iterdir()) == []
    assert_model_loads(Run(0, stdout, stderr, folder))
