"""Every valid pair of stage and offload, with the optimizers and schedulers that its runs use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.support.process import SMALL

OFFLOADS = {
    0: ["none"],
    1: ["none", "cpu_optimizer"],
    2: ["none", "cpu_optimizer"],
    3: ["none", "cpu", "cpu_optimizer", "nvme", "nvme_optimizer"],
}
PAIRS = [(stage, offload) for stage, offloads in OFFLOADS.items() for offload in offloads]

_CHOICES = {
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
"""For some pairs, an optimizer, a scheduler and other settings: with bf16, and with fp32."""


@dataclass(frozen=True)
class Case:
    stage: int
    offload: str
    precision: Literal["bf16", "fp32"]
    ranks: int = 1
    choices: bool = True

    @property
    def name(self) -> str:
        plain = "" if self.choices else "-plain"
        return f"{self.stage}-{self.offload}-{self.precision}-{self.ranks}{plain}"

    @property
    def chosen(self) -> list[str]:
        with_bf16, with_fp32 = _CHOICES.get((self.stage, self.offload), ("", ""))
        return (with_bf16 if self.precision == "bf16" else with_fp32).split() if self.choices else []

    def overrides(self, text_file: Path) -> list[str]:
        return [
            *SMALL,
            f"stage={self.stage}",
            f"offload={self.offload}",
            f"precision={self.precision}",
            f"launcher.nproc_per_node={self.ranks}",
            f"data.path={text_file}",
            "train.learning_rate=1e-2",
            "tracking=none",
            "strict=true",
            *self.chosen,
        ]


ONE_RANK = [
    *(Case(stage, offload, "bf16") for stage, offload in PAIRS),
    *(Case(stage, offload, "fp32") for stage, offload in PAIRS),
    *(Case(stage, "none", "bf16", choices=False) for stage in OFFLOADS),
]
TWO_RANKS = [
    *(Case(stage, offload, "fp32", 2) for stage, offload in PAIRS),
    *(Case(stage, offload, "bf16", 2, choices=False) for stage, offload in PAIRS),
]
SHARE_OF_TWO_RANKS = [
    Case(1, "cpu_optimizer", "fp32", 2),
    Case(3, "cpu", "bf16", 2, choices=False),
    Case(3, "nvme", "bf16", 2, choices=False),
]
"""Of `make test`; `python -m campaigns.stages` trains all."""
