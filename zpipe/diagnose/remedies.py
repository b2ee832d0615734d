"""What may help against each ending, best first: DeepSpeed's guide, rung by rung.

A ladder proposes freely; `zpipe.diagnose.advice` drops what is set already and what does not compile.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zpipe.launchers.rank_exits import Death
from zpipe.plan.plan import Plan
from zpipe.runfolder.outcome import Ending
from zpipe.schema.experiment import Experiment

OFFLOADS = ("none", "cpu_optimizer", "cpu", "nvme")
"""By the device memory that they leave, the least first."""


@dataclass(frozen=True)
class Suggestion:
    """Overrides to add to the command, and what they do."""

    overrides: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Situation:
    """What the advice depends on."""

    plan: Plan
    phase: str = ""
    step: int = 0
    death: Death | None = None

    @property
    def experiment(self) -> Experiment:
        return self.plan.experiment

    @property
    def on_cpu(self) -> bool:
        return self.plan.launch.device == "cpu"

    @property
    def is_fp16(self) -> bool:
        return self.plan.engine.dtype == "fp16"

    @property
    def is_16_bit(self) -> bool:
        return self.plan.engine.dtype in ("fp16", "bf16")

    @property
    def offload(self) -> str:
        """The nearest of OFFLOADS."""
        offload = self.experiment.offload
        devices = (offload.offload_optimizer.device, offload.offload_param.device)
        if "nvme" in devices:
            return "nvme"
        return "cpu" if devices[1] == "cpu" else "cpu_optimizer" if devices[0] == "cpu" else "none"


Ladder = Callable[[Situation], Iterator[Suggestion]]


def gpu_memory(situation: Situation) -> Iterator[Suggestion]:
    """Activations first, which cost nothing but time; then the states, by stage and by offload."""
    if situation.phase == "evaluate":
        yield Suggestion(
            ("batch.per_device_eval_batch_size=1",), "evaluation holds fewer sequences at a time"
        )
    if situation.phase != "model":  # before the first batch there are no activations
        yield from _smaller_activations(situation)
    if not situation.is_16_bit:
        yield Suggestion(("precision=auto",), "a 16-bit format halves weights, gradients and activations")
    if situation.plan.launch.world_size > 1:
        yield from _higher_stages(situation)
    yield from _more_offload(situation)
    yield from _shorter_sequences(situation)


def host_memory(situation: Situation) -> Iterator[Suggestion]:
    """Whatever fills the host: the training itself on a CPU, what is offloaded, pinned buffers, processes."""
    if situation.on_cpu:
        yield from _smaller_activations(situation)
        if not situation.is_16_bit:
            yield Suggestion(("precision=bf16",), "bf16 halves weights, gradients and activations")
    yield from _leaner_swapping(situation)
    if situation.on_cpu or situation.offload != "none":
        if situation.offload == "cpu_optimizer":
            yield Suggestion(("stage=3", "offload=nvme_optimizer"), "optimizer states go to files")
        yield Suggestion(("stage=3", "offload=nvme"), "parameters and optimizer states go to files")
    if situation.offload != "none":
        yield Suggestion(("offload.pin_memory=false",), "memory that is not pinned can be paged out")
    yield Suggestion(("train.dataloader_num_workers=0",), "each data loader is a process with its own memory")
    processes = situation.plan.launch.nproc_per_node
    if processes > 1:
        yield Suggestion(
            (f"launcher.nproc_per_node={processes // 2}",), "fewer processes hold fewer copies on the host"
        )
    yield from _shorter_sequences(situation)


def nonfinite_loss(situation: Situation) -> Iterator[Suggestion]:
    """First the range of the numbers, then the size of the steps."""
    if situation.is_fp16:
        yield Suggestion(("precision=bf16",), "bf16 has the range of fp32 and needs no loss scale")
    yield from _smaller_steps(situation)
    if situation.is_16_bit:
        yield Suggestion(("precision=fp32",), "full precision tells whether the format is at fault")


def loss_scale(situation: Situation) -> Iterator[Suggestion]:
    """The format first: a scale at its minimum means that the gradients themselves do not fit fp16."""
    fp16 = situation.experiment.precision.fp16
    yield Suggestion(("precision=bf16",), "bf16 has the range of fp32 and needs no loss scale")
    if fp16.loss_scale:
        yield Suggestion(("precision.fp16.loss_scale=0",), "a dynamic scale finds its own value")
    if fp16.min_loss_scale is not None and fp16.min_loss_scale > 1:
        yield Suggestion(("precision.fp16.min_loss_scale=1",), "lets the scale fall as low as it can")
    yield from _smaller_steps(situation)
    if not fp16.loss_scale and (fp16.initial_scale_power is None or fp16.initial_scale_power > 8):
        yield Suggestion(
            ("precision.fp16.initial_scale_power=8",), "starts with a scale of 256 instead of falling to it"
        )


def hang(situation: Situation) -> Iterator[Suggestion]:
    """What makes the cause visible, and a longer wait for what was merely slow."""
    if not situation.on_cpu and situation.plan.launch.world_size > 1:
        yield Suggestion(("launcher.env.NCCL_DEBUG=INFO",), "NCCL says which collective it waits in")
    yield Suggestion(("train.dataloader_num_workers=0",), "rules out a data loader that waits")
    timeout = situation.experiment.launcher.hang_timeout_s
    if timeout is not None:
        yield Suggestion((f"launcher.hang_timeout_s={4 * timeout:g}",), "if the ranks were merely slow")


def rank_died(situation: Situation) -> Iterator[Suggestion]:
    """SIGKILL is mostly memory that nobody saw; the other signals are native code that failed."""
    death = situation.death
    if death is not None and death.exit_code == -signal.SIGKILL:
        yield from host_memory(situation)
        return
    yield Suggestion(("train.torch_compile=false",), "rules out compiled kernels")
    yield Suggestion(("train.use_liger_kernel=false",), "rules out Liger's kernels")
    yield Suggestion(("train.dataloader_num_workers=0",), "rules out shared memory of the data loaders")
    yield Suggestion(("model.attn_implementation=eager",), "rules out fused attention kernels")


def disk_full(situation: Situation) -> Iterator[Suggestion]:
    """Checkpoints are what fills a run folder."""
    if situation.experiment.checkpoint.save_strategy == "no":
        return
    yield Suggestion(("checkpoint.save_total_limit=1",), "keeps the newest checkpoint only")
    yield Suggestion(
        ("checkpoint.save_only_model=true",),
        "leaves the optimizer's states out; such a run cannot be resumed",
    )
    yield Suggestion(("checkpoint=none",), "saves the final model only")


def operator_build(situation: Situation) -> Iterator[Suggestion]:
    """Settings that need no operator, or fewer."""
    if "fused_adam" in situation.plan.operators:
        yield Suggestion(("optimizer.params.torch_adam=true",), "PyTorch's Adam needs no operator")
    if "async_io" in situation.plan.operators:
        yield Suggestion(("offload=cpu",), "host memory needs no async_io")
    yield Suggestion(("offload=none",), "without offload no CPU operator is needed")


def stopped(situation: Situation) -> Iterator[Suggestion]:
    """The next time, more of the work should be saved."""
    checkpoint = situation.experiment.checkpoint
    if situation.step >= 2 and (
        checkpoint.save_strategy != "steps" or checkpoint.save_steps > situation.step
    ):
        steps = max(1, situation.step // 2)
        yield Suggestion(
            ("checkpoint.save_strategy=steps", f"checkpoint.save_steps={steps}"),
            "this run ended before its first checkpoint",
        )


def nothing(situation: Situation) -> Iterator[Suggestion]:
    """A Python error is mended where it was raised."""
    yield from ()


LADDERS: dict[Ending, Ladder] = {
    "gpu_out_of_memory": gpu_memory,
    "host_out_of_memory": host_memory,
    "nonfinite_loss": nonfinite_loss,
    "loss_scale_stuck": loss_scale,
    "hang": hang,
    "rank_died": rank_died,
    "disk_full": disk_full,
    "operator_build": operator_build,
    "preempted": stopped,
    "interrupted": nothing,
    "terminated": stopped,
    "failed": nothing,
    "environment": nothing,
}


def _smaller_activations(situation: Situation) -> Iterator[Suggestion]:
    batch = situation.experiment.batch
    micro, accumulation = batch.per_device_train_batch_size, situation.plan.accumulation
    if micro > 1:
        smaller = max(size for size in range(1, micro) if micro % size == 0)
        overrides = [f"batch.per_device_train_batch_size={smaller}"]
        # With a given batch size the accumulation follows by itself, unless that is given too.
        if batch.train_batch_size is None or batch.gradient_accumulation_steps is not None:
            overrides.append(f"batch.gradient_accumulation_steps={accumulation * micro // smaller}")
        yield Suggestion(tuple(overrides), "fewer activations at a time, the same batch in each step")
    yield Suggestion(("train.gradient_checkpointing=true",), "activations are computed again instead of kept")


def _higher_stages(situation: Situation) -> Iterator[Suggestion]:
    shared = {
        1: "optimizer states are divided among the ranks",
        2: "optimizer states and gradients are divided among the ranks",
        3: "optimizer states, gradients and parameters are divided among the ranks",
    }
    for stage, why in shared.items():
        if stage > situation.experiment.stage.stage:
            yield Suggestion((f"stage={stage}",), why)


def _more_offload(situation: Situation) -> Iterator[Suggestion]:
    level, stage = OFFLOADS.index(situation.offload), situation.experiment.stage.stage
    proposals = {
        "cpu_optimizer": (max(stage, 2), "optimizer states move to host memory"),
        "cpu": (3, "parameters and optimizer states move to host memory"),
        "nvme": (3, "parameters and optimizer states move to files"),
    }
    for offload, (needed, why) in proposals.items():
        if OFFLOADS.index(offload) > level:
            yield Suggestion((f"stage={needed}", f"offload={offload}"), why)


def _leaner_swapping(situation: Situation) -> Iterator[Suggestion]:
    if situation.offload != "nvme":
        return
    yield Suggestion(
        ("offload.offload_param.buffer_count=null", "offload.offload_optimizer.buffer_count=null"),
        "no more pinned buffers than swapping needs",
    )
    yield Suggestion(("offload.offload_param.max_in_cpu=0",), "no parameters stay in host memory")


def _smaller_steps(situation: Situation) -> Iterator[Suggestion]:
    train = situation.experiment.train
    if train.learning_rate > 0:
        yield Suggestion((f"train.learning_rate={train.learning_rate / 10:.3g}",), "smaller steps")
    if train.warmup_steps == 0:
        yield Suggestion(("train.warmup_steps=0.1",), "smaller steps at the start")
    if train.max_grad_norm == 0 or train.max_grad_norm > 1:
        yield Suggestion(("train.max_grad_norm=1",), "bounds what one bad batch can do")


def _shorter_sequences(situation: Situation) -> Iterator[Suggestion]:
    length = situation.experiment.data.max_length
    if length >= 512:
        yield Suggestion((f"data.max_length={length // 2}",), "shorter sequences; less context is learned")
