"""The task `train`: from the plan to the trained model, phase by phase."""

import os
import shlex
from typing import TYPE_CHECKING

from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home
from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.attempt_start import AttemptStart, read_start, start_by_hand, write_start
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import AttemptBegan
from zpipe.runfolder.plan_file import folder_of
from zpipe.schema.resume import AUTO
from zpipe.train.ranks import Rank

_SUPERVISED = {"ZPIPE_PARENT", "ZPIPE_LAUNCH_ID"}
"""Variables of workers that zpipe has started."""

if TYPE_CHECKING:
    from zpipe.train.trainers.causal_lm import CausalLMTraining


def train(plan: Plan, rank: Rank, reporter: Reporter) -> None:
    """Trains, evaluates and saves as one rank. Raises Refusal for input that cannot be used."""
    # Each module is imported when its phase begins: refused data should not wait for DeepSpeed.
    start = _begin(plan, rank, reporter)
    reporter.phase("start", f"{rank.world_size} x {plan.launch.device}")
    _check_model_folder(plan)
    _select_device(plan, rank)
    _check_dtype(plan)

    reporter.phase("tokenizer", plan.model.tokenizer)
    from zpipe.train.tokens import load_tokenizer

    tokenizer = load_tokenizer(plan)

    reporter.phase("data", plan.experiment.data.path or plan.experiment.data.source)
    from zpipe.train.data import load_sequences, remove_markers

    sequences = load_sequences(plan, tokenizer, rank, reporter)

    reporter.phase("operators", ", ".join(plan.operators) or "none")
    from zpipe.train.operators import disable_shm_comm, ensure_operators

    ensure_operators(plan.operators, reporter)
    if plan.launch.device == "cpu":
        disable_shm_comm()

    reporter.phase("model", plan.model.name)
    from zpipe.train.light_imports import import_muon_for

    import_muon_for(plan)
    from zpipe.train.trainers.causal_lm import CausalLMTraining

    training = CausalLMTraining(plan, tokenizer, sequences, rank, reporter, start)

    reporter.phase("train", _awaited(plan, start))
    is_complete = training.train()
    if rank.is_main:
        remove_markers(plan, rank)
    if is_complete:
        _finish(plan, training, reporter, evaluates=sequences.held_out is not None)


def _finish(plan: Plan, training: "CausalLMTraining", reporter: Reporter, *, evaluates: bool) -> None:
    if evaluates:
        reporter.phase("evaluate")
        training.evaluate()
    if plan.experiment.checkpoint.save_final_model:
        reporter.phase("save")
        training.save()
    training.summarize()
    reporter.phase("done")


def _begin(plan: Plan, rank: Rank, reporter: Reporter) -> AttemptStart:
    folder = folder_of(plan)
    attempt = folder.attempt
    if rank.is_main and attempt.start.exists() and not _SUPERVISED & os.environ.keys():
        reason = "this command was run before, and the run goes on with zpipe only"
        raise Refusal(
            [Problem("attempt", attempt.number, reason, fix=f"zpipe {shlex.quote(f'resume={folder.path}')}")]
        )
    if _is_by_hand(plan):
        start = start_by_hand(folder)
        if rank.is_main:
            write_start(attempt, start)
        return start
    start = read_start(attempt)
    if attempt.number > 1:
        reporter.report(AttemptBegan(number=attempt.number, step=start.step))
    return start


def _is_by_hand(plan: Plan) -> bool:
    """Whether no zpipe has begun this attempt, and there is nothing that it would go on from."""
    folder = folder_of(plan)
    is_first = folder.attempt.number == 1 and not checkpoints_in(checkpoint_home(plan))
    return is_first and plan.experiment.resume.checkpoint == AUTO and not folder.attempt.start.exists()


def _awaited(plan: Plan, start: AttemptStart) -> str:
    """What the first step waits for, if it is slow."""
    if start.checkpoint is not None:
        return f"loading the checkpoint of step {start.step}"
    if plan.experiment.compile.deepcompile:
        return "DeepCompile compiles and profiles the model in the first steps, which can take minutes"
    if plan.experiment.compile.regional:
        return "torch.compile compiles a layer of each kind in the first step"
    if plan.experiment.train.is_compiled:
        return "torch.compile compiles the model in the first step, which can take minutes"
    return ""


def _select_device(plan: Plan, rank: Rank) -> None:
    """Makes the GPU of this rank the current one, before any call could initialize GPU 0 instead."""
    if plan.launch.device == "cuda":
        import torch

        torch.cuda.set_device(rank.local_index)
        _limit_gpu_memory(plan.launch.gpu_memory)


def _limit_gpu_memory(most: int | None) -> None:
    """Lets PyTorch allocate no more bytes of the current GPU; None also ends the limit of a run before."""
    import torch

    if most is None and not torch.cuda.is_initialized():
        return
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (most or total) / total))


def _check_model_folder(plan: Plan) -> None:
    """Refuses a model folder that does not exist; hub ids are left to transformers."""
    name = plan.experiment.model.name_or_path
    if name is None or not name.startswith(("/", ".", "~")) or expanded(name).is_dir():
        return
    raise Refusal(
        [
            Problem(
                key="model.name_or_path",
                value=name,
                reason="no such folder",
                allowed="a local folder with config.json and weights, or a hub id",
                fix="model.name_or_path=/path/to/folder",
            )
        ]
    )


def _check_dtype(plan: Plan) -> None:
    """Refuses fp16 and bf16 on a device that does not support them, before anything heavy is loaded."""
    dtype = plan.engine.dtype
    if dtype == "fp32" or (dtype, plan.launch.device) == ("bf16", "cpu"):
        return
    from deepspeed.accelerator import get_accelerator

    device = get_accelerator()
    supported = device.is_fp16_supported() if dtype == "fp16" else device.is_bf16_supported()
    if not supported:
        raise Refusal(
            [
                Problem(
                    key="precision",
                    value=dtype,
                    reason=f"DeepSpeed cannot train in {dtype} on this device ({device.device_name()})",
                    allowed="fp32, bf16" if dtype == "fp16" else "fp32, fp16",
                    fix="precision=bf16" if dtype == "fp16" else "precision=fp16",
                )
            ]
        )
