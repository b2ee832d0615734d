"""One worker process, from the plan to the trained model."""

import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from zpipe.exits import Exit
from zpipe.plan.plan import Plan, read_plan, write_json
from zpipe.problems import Problem, Refusal
from zpipe.redact import redact
from zpipe.runfolder.disk_reserve import give_up
from zpipe.train.ranks import Rank, Reporter

LET_RANK_0_SPEAK_SECONDS = 20.0


def run(run_dir: Path) -> int:
    """Trains the plan in `run_dir` as one rank; returns an `Exit` code.

    Rank 0 tells what happens in events.jsonl; OSError is raised only where that cannot be opened.
    A rank that fails, or refuses what rank 0 takes, leaves `rank<R>.error.json`.
    """
    rank = Rank.from_environment()
    reporter = Reporter(run_dir, rank)
    code = _ending(run_dir, rank, reporter)
    try:
        reporter.close()
    except OSError as error:
        return _failed(error, run_dir, rank, reporter) if code == Exit.FINISHED else code
    return code


def _ending(run_dir: Path, rank: Rank, reporter: Reporter) -> int:
    try:
        _train(read_plan(run_dir), rank, reporter)
        return Exit.FINISHED
    except Refusal as refusal:
        return _refused(refusal, run_dir, rank, reporter)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        return _failed(error, run_dir, rank, reporter)


def leave_group() -> None:
    """Leaves the process group. Not part of `run`: DeepSpeed cannot join a second one in one process."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _train(plan: Plan, rank: Rank, reporter: Reporter) -> None:
    # Each module is imported when its turn comes: a refused data set should not wait for DeepSpeed.
    reporter.phase("start", f"{rank.world_size} x {plan.launch.device}")
    _check_model_folder(plan)
    _claim_device(plan, rank)
    _check_precision(plan)

    reporter.phase("tokenizer", plan.model.tokenizer)
    from zpipe.train.tokens import load_tokenizer

    tokenizer = load_tokenizer(plan)

    reporter.phase("data", plan.experiment.data.path or plan.experiment.data.source)
    from zpipe.train.data import load_sequences, remove_marker

    sequences = load_sequences(plan, tokenizer, rank, reporter)

    reporter.phase("operators", ", ".join(plan.operators) or "none")
    from zpipe.train.operators import disable_shm_comm, ensure_operators

    ensure_operators(plan.operators, reporter)
    if plan.launch.device == "cpu":
        disable_shm_comm()

    reporter.phase("model", plan.model.name)
    from zpipe.train.trainers.causal_lm import CausalLMTraining

    training = CausalLMTraining(plan, tokenizer, sequences, rank, reporter)

    reporter.phase("train")
    training.train()
    if rank.is_main:
        remove_marker(plan, rank)
    if sequences.held_out is not None:
        reporter.phase("evaluate")
        training.evaluate()
    if plan.experiment.checkpoint.save_final_model:
        reporter.phase("save")
        training.save()
    training.summarize()
    reporter.phase("done")


def _claim_device(plan: Plan, rank: Rank) -> None:
    """Makes this rank's GPU the current one before anything asks about "the" GPU and so wakes GPU 0."""
    if plan.launch.device == "cuda":
        import torch

        torch.cuda.set_device(rank.local_index)


def _check_model_folder(plan: Plan) -> None:
    """Refuses a model folder that is not there; hub ids are left to transformers."""
    name = plan.experiment.model.name_or_path
    if name is None or not name.startswith(("/", ".", "~")) or Path(name).expanduser().is_dir():
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


def _check_precision(plan: Plan) -> None:
    """Refuses fp16 and bf16 on a device that lacks them, before anything heavy is loaded."""
    dtype = next((name for name in ("fp16", "bf16") if plan.ds_config.get(name, {}).get("enabled")), None)
    if dtype is None or (dtype, plan.launch.device) == ("bf16", "cpu"):
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


def _refused(refusal: Refusal, run_dir: Path, rank: Rank, reporter: Reporter) -> int:
    """Rank 0 speaks for all; another that is still there after a while refuses what rank 0 took."""
    if not rank.is_main:
        # The first rank to exit makes torchrun end the others: rank 0 must have spoken by then.
        time.sleep(LET_RANK_0_SPEAK_SECONDS)
        _leave_error(refusal, run_dir, rank)
        return Exit.REFUSED
    try:
        reporter.write("refused", problems=[_as_json(problem) for problem in refusal.problems])
    except OSError as error:
        return _failed(error, run_dir, rank, reporter)
    return Exit.REFUSED


def _as_json(problem: Problem) -> dict[str, object]:
    value = problem.value
    return {
        "key": problem.key,
        "value": value if isinstance(value, str | int | float | bool | None) else str(value),
        "reason": problem.reason,
        "allowed": problem.allowed,
        "fix": problem.fix,
    }


def _failed(error: Exception, run_dir: Path, rank: Rank, reporter: Reporter) -> int:
    what = _leave_error(error, run_dir, rank)
    with suppress(OSError):
        reporter.write("failed", **what)
    return Exit.FAILED


def _leave_error(error: Exception, run_dir: Path, rank: Rank) -> dict[str, str]:
    """Leaves the traceback in the run folder and on stderr, as far as there is room; returns the error."""
    give_up(run_dir)
    text = redact("".join(traceback.format_exception(error)))
    what = {"type": type(error).__name__, "message": redact(str(error))}
    told = {"rank": rank.index, **what, "traceback": text, "time": time.time()}
    with suppress(OSError):
        write_json(run_dir / f"rank{rank.index}.error.json", told)
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return what
