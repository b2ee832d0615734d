"""From the evidence to the ending: a pure function, rule by rule, the first that fits decides."""

import math
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from zpipe.diagnose.evidence import Evidence, RankError, Silence
from zpipe.diagnose.root_cause import error_of_type, root_death, root_error
from zpipe.launchers.rank_exits import Death
from zpipe.machine.samples import Sample
from zpipe.runfolder.outcome import Ending

MEMORY_IS_FULL = 0.95
"""Share of the limit from which a killed rank is taken for a victim of its memory."""
DISK_IS_FULL = 1 << 20
"""Bytes: with less, nothing of use can be written."""
LOOKED_BACK = 15
"""Samples before the end, a second each, in which memory or disk must have run out to explain it."""

_COLLECTIVE_TIMEOUT = re.compile(
    r"Watchdog caught collective operation timeout|Timed out waiting \d+ ?ms|wait timeout after \d+ ?ms"
)
_GPU_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|Cuda failure 2 'out of memory'|"
    r"Failed to CUDA calloc|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED"
)
_HOST_MEMORY = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|Cannot allocate memory|std::bad_alloc|"
    r"^MemoryError\b",
    re.MULTILINE,
)
_PINNED_MEMORY = re.compile(r"pin_memory\(|cudaHostAlloc|HostAllocator")
_WORKER_KILLED = re.compile(r"DataLoader worker .*killed by signal: Killed")
_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|PytorchStreamWriter failed writing|"
    r"inline_container\.cc.*unexpected pos"
)
"""torch.save says nothing of the reason when the file system took less than it was given."""

_COMPILER_ERROR = re.compile(r"\b(fatal )?error: ")
_SCALE_AT_MINIMUM = re.compile(r"loss scale already at minimum", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """How the run ended, and why, in one line."""

    ending: Ending
    reason: str = ""
    rank: int | None = None
    """The rank that ended it, where one did."""


Rule = Callable[[Evidence], Verdict | None]


def classify(evidence: Evidence) -> Verdict:
    """The ending that the evidence shows."""
    for rule in RULES:
        verdict = rule(evidence)
        if verdict is not None:
            return verdict
    return Verdict("failed", _last_word(evidence))


def _refused(evidence: Evidence) -> Verdict | None:
    refused = evidence.progress.refused
    if refused is None:
        return None
    return Verdict("refused", "; ".join(f"{each.key}: {each.reason}" for each in refused.listed()))


def _finished(evidence: Evidence) -> Verdict | None:
    # Without a return code nobody saw the launcher end, but rank 0 had said that all was done.
    return Verdict("finished") if evidence.progress.done and evidence.returncode in (0, None) else None


def _stopped(evidence: Evidence) -> Verdict | None:
    number = evidence.stopped_by
    if number == signal.SIGINT:
        return Verdict("interrupted", f"Ctrl-C {_where(evidence)}")
    if number in (signal.SIGTERM, signal.SIGHUP) and not evidence.in_batch_job:
        return Verdict("terminated", f"{signal.Signals(number).name} {_where(evidence)}")
    if number is None and not any(-death.exit_code == signal.SIGUSR1 for death in evidence.deaths):
        return None
    name = signal.Signals(number or signal.SIGUSR1).name
    return Verdict("preempted", f"{name}, the batch scheduler's notice of the end, {_where(evidence)}")


def _hung(evidence: Evidence) -> Verdict | None:
    if evidence.silence is not None:
        silence = evidence.silence
        reason = f"no sign of life for {silence.seconds:.0f} s {_where(evidence)}{_states(silence)}"
        return Verdict("hang", reason, _stopped_rank(silence))
    error = root_error(evidence)
    if error is not None and _COLLECTIVE_TIMEOUT.search(error.message):
        return Verdict("hang", f"a collective timed out {_where(evidence)}: {error.line}", error.rank)
    return _watchdog_abort(evidence)


def _watchdog_abort(evidence: Evidence) -> Verdict | None:
    """NCCL's watchdog ends the process itself, and says why on standard error alone."""
    death = root_death(evidence)
    if death is None or death.exit_code != -signal.SIGABRT:
        return None
    line = _line_of(evidence, death.rank, _COLLECTIVE_TIMEOUT)
    if line is None:
        return None
    return Verdict("hang", f"a collective timed out {_where(evidence)}: {line}", death.rank)


def _operator_build(evidence: Evidence) -> Verdict | None:
    error = error_of_type(evidence, "OperatorBuildError")
    if error is None:
        return None
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    operator = lines[0].partition(":")[0]
    said = next((line for line in lines if _COMPILER_ERROR.search(line)), None)
    return Verdict("operator_build", f"{operator}: {said}" if said else lines[0], error.rank)


def _loss_scale(evidence: Evidence) -> Verdict | None:
    """All ranks see it at the same step, so no rank is named."""
    error = error_of_type(evidence, "LossScaleStuckError")
    if error is not None:
        return Verdict("loss_scale_stuck", error.message)
    error = root_error(evidence)
    if error is None or not _SCALE_AT_MINIMUM.search(error.message):
        return None
    return Verdict("loss_scale_stuck", error.line)


def _nonfinite(evidence: Evidence) -> Verdict | None:
    """A loss that is no number explains a loss scale that fell to its minimum, and not the reverse."""
    error = error_of_type(evidence, "NonFiniteLossError")
    if error is not None:
        return Verdict("nonfinite_loss", error.message)
    stuck, loss = _loss_scale(evidence), evidence.progress.loss
    if stuck is None or loss is None or math.isfinite(loss):
        return None
    return Verdict("nonfinite_loss", f"the loss was {loss} {_where(evidence)}; {stuck.reason}")


def _gpu_memory(evidence: Evidence) -> Verdict | None:
    error = root_error(evidence)
    if error is None:
        return None
    says_so = error.type == "OutOfMemoryError" or _GPU_MEMORY.search(error.message)
    if not says_so or _PINNED_MEMORY.search(error.traceback):
        return None
    return Verdict("gpu_out_of_memory", f"rank {error.rank} {_where(evidence)}: {error.line}", error.rank)


def _host_memory(evidence: Evidence) -> Verdict | None:
    error, death = root_error(evidence), root_death(evidence)
    if error is not None and _lacks_host_memory(error):
        return Verdict(
            "host_out_of_memory", f"rank {error.rank} {_where(evidence)}: {error.line}", error.rank
        )
    killed = death is not None and death.exit_code == -signal.SIGKILL
    killed = killed or (error is not None and _WORKER_KILLED.search(error.message) is not None)
    if killed and _was_short_of_memory(evidence):
        rank = death.rank if death is not None else error.rank if error is not None else None
        return Verdict(
            "host_out_of_memory",
            f"rank {rank} was killed {_where(evidence)} with {_memory(evidence.samples[-LOOKED_BACK:])}",
            rank,
        )
    return _abort_for_memory(evidence, death)


def _abort_for_memory(evidence: Evidence, death: Death | None) -> Verdict | None:
    """C++ code ends the process when it gets no memory, and says so on standard error alone."""
    if death is None or death.signal_name is None:
        return None
    line = _line_of(evidence, death.rank, _HOST_MEMORY)
    if line is None:
        return None
    reason = f"rank {death.rank} ended by {death.signal_name} {_where(evidence)}: {line}"
    return Verdict("host_out_of_memory", reason, death.rank)


def _disk(evidence: Evidence) -> Verdict | None:
    error = root_error(evidence)
    if error is not None and _NO_ROOM.search(error.message + error.traceback):
        return Verdict("disk_full", f"rank {error.rank} {_where(evidence)}: {error.line}", error.rank)
    line = next((line for line in evidence.all_lines if _NO_ROOM.search(line)), None)
    if line is not None:
        return Verdict("disk_full", line.strip(), error.rank if error else None)
    if any(sample.disk_free < DISK_IS_FULL for sample in evidence.samples[-LOOKED_BACK:]):
        said = f": {error.line}" if error else ""
        return Verdict(
            "disk_full", f"the disk of the run folder is full{said}", error.rank if error else None
        )
    return None


def _killed_by_signal(evidence: Evidence) -> Verdict | None:
    death = root_death(evidence)
    if death is None or death.signal_name is None or evidence.returncode is None:
        return None
    lines = evidence.lines.get(death.rank, ())
    said = f"; its last line: {lines[-1].strip()}" if lines else ""
    reason = f"rank {death.rank} was ended by {death.signal_name} {_where(evidence)}{said}"
    return Verdict("rank_died", reason, death.rank)


def _python_error(evidence: Evidence) -> Verdict | None:
    error = root_error(evidence)
    return None if error is None else Verdict("failed", f"rank {error.rank}: {error.line}", error.rank)


def _unseen(evidence: Evidence) -> Verdict | None:
    """Nobody saw the end: the workers end themselves when zpipe is gone."""
    if evidence.returncode is not None:
        return None
    return Verdict("terminated", f"zpipe itself was killed {_where(evidence)}, and its workers ended with it")


def _exit_code(evidence: Evidence) -> Verdict | None:
    death = root_death(evidence)
    if death is None:
        return None
    lines = evidence.lines.get(death.rank, ())
    said = f": {lines[-1].strip()}" if lines else ""
    return Verdict("failed", f"rank {death.rank} ended with exit code {death.exit_code}{said}", death.rank)


RULES: tuple[Rule, ...] = (
    _refused,
    _finished,
    _stopped,
    _hung,
    _operator_build,
    _nonfinite,
    _loss_scale,
    _gpu_memory,
    _host_memory,
    _disk,
    _killed_by_signal,
    _python_error,
    _unseen,
    _exit_code,
)


def _was_short_of_memory(evidence: Evidence) -> bool:
    """Whether the kernel killed for memory at the end, or memory was all but used up."""
    last = evidence.samples[-LOOKED_BACK:]
    if not last:
        return False
    killed = last[-1].oom_kills > last[0].oom_kills
    return killed or max(sample.host_used / sample.host_limit for sample in last) >= MEMORY_IS_FULL


def _lacks_host_memory(error: RankError) -> bool:
    said = f"{error.type}: {error.message}"
    pinned = "out of memory" in error.message and _PINNED_MEMORY.search(error.traceback)
    return bool(_HOST_MEMORY.search(said) or pinned)


def _line_of(evidence: Evidence, rank: int, pattern: re.Pattern[str]) -> str | None:
    """The first of a rank's last lines that says so."""
    lines = evidence.lines.get(rank, ())
    return next((line.strip() for line in lines if pattern.search(line)), None)


def _where(evidence: Evidence) -> str:
    progress = evidence.progress
    if progress.phase in ("train", "evaluate", "save"):
        return f"in phase {progress.phase} after step {progress.step}"
    return f"in phase {progress.phase}" if progress.phase else "before the workers said anything"


def _memory(samples: tuple[Sample, ...]) -> str:
    fullest = max(samples, key=lambda sample: sample.host_used)
    kills = samples[-1].oom_kills - samples[0].oom_kills
    gib = 2**30
    text = f"{fullest.host_used / gib:.2f} of {fullest.host_limit / gib:.2f} GiB of host memory in use"
    return f"{text}, and the kernel counts {kills} kill(s) for memory" if kills else text


def _states(silence: Silence) -> str:
    if not silence.states:
        return ""
    return ": " + ", ".join(f"rank {rank} is {state}" for rank, state in silence.states.items())


def _stopped_rank(silence: Silence) -> int | None:
    """The rank that is stopped or gone, if one stands out."""
    odd = [rank for rank, state in silence.states.items() if state in ("stopped", "tracing-stop", "gone")]
    return odd[0] if len(odd) == 1 else None


def _last_word(evidence: Evidence) -> str:
    lines = evidence.all_lines
    return lines[-1].strip() if lines else f"the workers ended with {evidence.returncode}"
