"""What may help against each ending, best first, as DeepSpeed's guide recommends.

Nothing is checked here: `zpipe.diagnose.advice` drops what is already set and what does not compile.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zpipe.checks.memory_ladder import smaller_batches
from zpipe.launchers.rank_exits import RankExit
from zpipe.plans.plan import Plan
from zpipe.runfolder.outcome import Ending
from zpipe.schema.experiment import Experiment

OFFLOADS = ("none", "cpu_optimizer", "cpu", "nvme")
"""In ascending order of the device memory that they save."""
MEMORY_MAY_BE_SHORT = 0.75
"""Share of the host's memory from which a jump between two samples may have used up the rest."""


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
    rank_exit: RankExit | None = None
    """The first failed rank, if no exception explains it."""
    memory_use: float | None = None
    """Highest share of the host's memory in use at the end; None without samples."""
    has_checkpoint: bool = False

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
        """The closest of OFFLOADS."""
        offload = self.experiment.offload
        devices = (offload.offload_optimizer.device, offload.offload_param.device)
        if "nvme" in devices:
            return "nvme"
        return "cpu" if devices[1] == "cpu" else "cpu_optimizer" if devices[0] == "cpu" else "none"


Remedies = Callable[[Situation], Iterator[Suggestion]]


def gpu_memory(situation: Situation) -> Iterator[Suggestion]:
    """Smaller activations first, which cost only time; then smaller states, by stage and offload."""
    if situation.phase == "evaluate":
        yield Suggestion(("batch.per_device_eval_batch_size=1",), "fewer sequences at a time in evaluation")
    if situation.phase != "model":  # there are no activations before the first batch
        yield from _smaller_activations(situation)
        yield Suggestion(("kernels.liger=true",), "Liger's loss keeps no logits of the whole micro-batch")
    if not situation.is_16_bit:
        yield Suggestion(("precision=auto",), "a 16-bit dtype halves weights, gradients and activations")
    if situation.plan.launch.world_size > 1:
        yield from _higher_stages(situation)
    yield from _more_offload(situation)
    yield from _shorter_sequences(situation)


def host_memory(situation: Situation) -> Iterator[Suggestion]:
    """Reduces what fills host memory: CPU training itself, offloaded states, pinned buffers, processes."""
    if situation.on_cpu:
        yield from _smaller_activations(situation)
        if not situation.is_16_bit:
            yield Suggestion(("precision=bf16",), "bf16 halves weights, gradients and activations")
    yield from _smaller_swap_buffers(situation)
    if situation.on_cpu or situation.offload != "none":
        if situation.offload == "cpu_optimizer":
            yield Suggestion(("stage=3", "offload=nvme_optimizer"), "optimizer states move to files")
        yield Suggestion(("stage=3", "offload=nvme"), "parameters and optimizer states move to files")
    if situation.offload != "none":
        yield Suggestion(("offload.pin_memory=false",), "unpinned memory can be paged out")
    yield Suggestion(
        ("train.dataloader_num_workers=0",), "each data loader worker is a process with its own memory"
    )
    processes = situation.plan.launch.nproc_per_node
    if processes > 1:
        yield Suggestion(
            (f"launcher.nproc_per_node={processes // 2}",), "fewer processes keep fewer copies in host memory"
        )
    yield from _shorter_sequences(situation)


def nonfinite_loss(situation: Situation) -> Iterator[Suggestion]:
    """A dtype with a larger range first, then smaller steps."""
    if situation.is_fp16:
        yield Suggestion(("precision=bf16",), "bf16 has the range of fp32 and needs no loss scale")
    yield from _smaller_steps(situation)
    if situation.is_16_bit:
        yield Suggestion(("precision=fp32",), "shows whether the dtype is the cause")


def nothing_learned(situation: Situation) -> Iterator[Suggestion]:
    """A loss scale that fits sooner, and more steps for it to fall."""
    yield from loss_scale(situation) if situation.is_fp16 else nonfinite_loss(situation)
    steps = situation.experiment.train.max_steps
    if situation.is_fp16 and 0 < steps < 50:
        yield Suggestion(
            ("train.max_steps=50",), "more steps, so that the loss scale falls until one is taken"
        )


def loss_scale(situation: Situation) -> Iterator[Suggestion]:
    """Another dtype first: at the minimum loss scale, the gradients themselves exceed the range of fp16."""
    fp16 = situation.experiment.precision.fp16
    yield Suggestion(("precision=bf16",), "bf16 has the range of fp32 and needs no loss scale")
    if fp16.loss_scale:
        yield Suggestion(("precision.fp16.loss_scale=0",), "a dynamic loss scale adapts itself")
    if fp16.min_loss_scale is not None and fp16.min_loss_scale > 1:
        yield Suggestion(("precision.fp16.min_loss_scale=1",), "lets the loss scale fall as low as possible")
    yield from _smaller_steps(situation)
    if not fp16.loss_scale and (fp16.initial_scale_power is None or fp16.initial_scale_power > 8):
        yield Suggestion(
            ("precision.fp16.initial_scale_power=8",),
            "starts with a loss scale of 256 instead of falling to it",
        )


def hang(situation: Situation) -> Iterator[Suggestion]:
    """Settings that make the cause visible, and a longer timeout in case the ranks were only slow."""
    if not situation.on_cpu and situation.plan.launch.world_size > 1:
        yield Suggestion(("launcher.env.NCCL_DEBUG=INFO",), "NCCL logs which collective it waits for")
    yield Suggestion(("train.dataloader_num_workers=0",), "rules out a blocked data loader")
    timeout = situation.experiment.launcher.hang_timeout_s
    if timeout is not None:
        yield Suggestion((f"launcher.hang_timeout_s={4 * timeout:g}",), "in case the ranks were only slow")


def rank_died(situation: Situation) -> Iterator[Suggestion]:
    """SIGKILL may mean a lack of memory that no sample showed; other signals mean failed native code.

    Without the exit of a rank the launcher was killed, which no override prevents.
    """
    rank_exit = situation.rank_exit
    if rank_exit is None:
        return
    if rank_exit.exit_code == -signal.SIGKILL:
        if situation.memory_use is None or situation.memory_use >= MEMORY_MAY_BE_SHORT:
            yield from host_memory(situation)
        return
    yield Suggestion(("train.torch_compile=false", "compile.regional=null"), "rules out compiled kernels")
    liger_off = ("kernels.liger=false", "train.use_liger_kernel=null")
    yield Suggestion(liger_off, "rules out the Liger kernels")
    yield Suggestion(("train.dataloader_num_workers=0",), "rules out the shared memory of data loaders")
    yield Suggestion(("model.attn_implementation=eager",), "rules out fused attention kernels")


def disk_full(situation: Situation) -> Iterator[Suggestion]:
    """Fewer and smaller checkpoints, which take most of the space in a run folder."""
    if situation.experiment.checkpoint.save_strategy == "no":
        return
    yield Suggestion(("checkpoint.save_total_limit=1",), "keeps only the newest checkpoint")
    yield Suggestion(
        ("checkpoint.save_only_model=true",),
        "leaves out the optimizer states; such a run cannot be resumed",
    )
    yield Suggestion(("checkpoint=none",), "saves only the final model")


def operator_build(situation: Situation) -> Iterator[Suggestion]:
    """Settings that need fewer operators or none."""
    if "fused_adam" in situation.plan.operators:
        yield Suggestion(("optimizer.params.torch_adam=true",), "PyTorch's Adam needs no operator")
    if "async_io" in situation.plan.operators:
        yield Suggestion(("offload=cpu",), "offload to host memory needs no async_io")
    yield Suggestion(("offload=none",), "without offload no CPU operator is needed")


def stopped(situation: Situation) -> Iterator[Suggestion]:
    """Earlier checkpoints, so that less work is lost next time."""
    checkpoint = situation.experiment.checkpoint
    if situation.has_checkpoint:
        return
    if situation.step >= 2 and (
        checkpoint.save_strategy != "steps" or checkpoint.save_steps > situation.step
    ):
        steps = max(1, situation.step // 2)
        yield Suggestion(
            ("checkpoint.save_strategy=steps", f"checkpoint.save_steps={steps}"),
            "this run ended before its first checkpoint",
        )


def no_remedy(situation: Situation) -> Iterator[Suggestion]:
    """A Python error is fixed in the code or the input, not by an override."""
    yield from ()


REMEDIES: dict[Ending, Remedies] = {
    "gpu_out_of_memory": gpu_memory,
    "host_out_of_memory": host_memory,
    "nonfinite_loss": nonfinite_loss,
    "loss_scale_stuck": loss_scale,
    "nothing_learned": nothing_learned,
    "hang": hang,
    "rank_died": rank_died,
    "disk_full": disk_full,
    "operator_build": operator_build,
    "preempted": stopped,
    "interrupted": no_remedy,
    "terminated": stopped,
    "failed": no_remedy,
    "environment": no_remedy,
}


def _smaller_activations(situation: Situation) -> Iterator[Suggestion]:
    plan = situation.plan
    for overrides in smaller_batches(plan.experiment.batch, plan.micro_batch, plan.accumulation)[:1]:
        yield Suggestion(overrides, "fewer activations at a time, the same batch size per step")
    yield Suggestion(("train.gradient_checkpointing=true",), "activations are recomputed instead of kept")


def _higher_stages(situation: Situation) -> Iterator[Suggestion]:
    partitioned = {
        1: "optimizer states are partitioned across ranks",
        2: "optimizer states and gradients are partitioned across ranks",
        3: "optimizer states, gradients and parameters are partitioned across ranks",
    }
    for stage, why in partitioned.items():
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


def _smaller_swap_buffers(situation: Situation) -> Iterator[Suggestion]:
    if situation.offload != "nvme":
        return
    yield Suggestion(
        ("offload.offload_param.buffer_count=null", "offload.offload_optimizer.buffer_count=null"),
        "pins only as many buffers as swapping needs",
    )
    yield Suggestion(("offload.offload_param.max_in_cpu=0",), "keeps no parameters in host memory")


def _smaller_steps(situation: Situation) -> Iterator[Suggestion]:
    train = situation.experiment.train
    if train.learning_rate > 0:
        yield Suggestion((f"train.learning_rate={train.learning_rate / 10:.3g}",), "smaller steps")
    if train.warmup_steps == 0:
        yield Suggestion(("train.warmup_steps=0.1",), "smaller steps at the start")
    if train.max_grad_norm == 0 or train.max_grad_norm > 1:
        yield Suggestion(("train.max_grad_norm=1",), "limits the effect of a single bad batch")


def _shorter_sequences(situation: Situation) -> Iterator[Suggestion]:
    length = situation.experiment.data.max_length
    if length >= 512:
        yield Suggestion(
            (f"data.max_length={length // 2}",), "shorter sequences; the model learns less context"
        )
