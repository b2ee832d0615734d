"""Derives the ending of a run from the evidence: a pure function in which the first matching rule decides."""

import math
import re
import signal
from dataclasses import replace

from zpipe.diagnose.evidence import Evidence, Silence
from zpipe.diagnose.resource_rules import disk, gpu_memory, host_memory, memory_use
from zpipe.diagnose.root_cause import error_of_type, is_consequence, root_error, root_exit
from zpipe.diagnose.verdict import Rule, Verdict, agent_signal, matching_line, where
from zpipe.exits import PREEMPTION

_COLLECTIVE_TIMEOUT = re.compile(
    r"Watchdog caught collective operation timeout|Timed out waiting \d+ ?ms|wait timeout after \d+ ?ms"
)
_COMPILER_ERROR = re.compile(r"\b(fatal )?error: ")
_CRASHES = (signal.SIGABRT, signal.SIGSEGV)
_SCALE_AT_MINIMUM = re.compile(r"loss scale already at minimum", re.IGNORECASE)


def classify(evidence: Evidence) -> Verdict:
    """The ending that the evidence shows."""
    for rule in RULES:
        verdict = rule(evidence)
        if verdict is not None:
            return _with_place(verdict, evidence)
    lines = evidence.all_lines
    last = lines[-1].strip() if lines else f"the workers exited with code {evidence.returncode}"
    return Verdict("failed", last)


def _with_place(verdict: Verdict, evidence: Evidence) -> Verdict:
    """Names the node of the rank, if the zpipe that classifies supervised several."""
    place = None if verdict.rank is None else evidence.places.get(verdict.rank)
    return verdict if place is None else replace(verdict, reason=f"{place}: {verdict.reason}")


def _refused(evidence: Evidence) -> Verdict | None:
    refused = evidence.progress.refused
    if refused is None:
        return None
    return Verdict("refused", "; ".join(f"{each.key}: {each.reason}" for each in refused.listed()))


def _folder_gone(evidence: Evidence) -> Verdict | None:
    if not evidence.folder_is_gone:
        return None
    return Verdict("failed", f"the run folder was deleted {where(evidence)}: its model and logs are lost")


def _finished(evidence: Evidence) -> Verdict | None:
    # A run whose zpipe was killed has no return code, but rank 0 may have reported that it was done.
    if not evidence.progress.done:
        return None
    if evidence.returncode in (0, None):
        return Verdict("finished")
    crashed = [each for each in evidence.rank_exits if -each.exit_code in _CRASHES]
    others = [each for each in evidence.rank_exits if -each.exit_code not in (*_CRASHES, signal.SIGTERM)]
    if not crashed or others or evidence.errors or evidence.stopped_by is not None:
        return None
    # torch's threads can abort a process that exits.
    return Verdict("finished", f"rank {crashed[0].rank} crashed while it exited, after everything was saved")


def _saved_and_stopped(evidence: Evidence) -> Verdict | None:
    stopped = evidence.progress.stopped
    if stopped is None:
        return None
    saved = f"saved at step {stopped.step}" if stopped.saved else "without a checkpoint"
    is_terminated = evidence.stopped_by in (signal.SIGTERM, signal.SIGHUP) and not evidence.in_batch_job
    return Verdict("terminated" if is_terminated else "preempted", f"{stopped.reason}, {saved}")


def _stopped(evidence: Evidence) -> Verdict | None:
    number = evidence.stopped_by
    if number == signal.SIGINT:
        return Verdict("interrupted", f"Ctrl-C {where(evidence)}")
    if number in (signal.SIGTERM, signal.SIGHUP) and not evidence.in_batch_job:
        return Verdict("terminated", f"{signal.Signals(number).name} {where(evidence)}")
    if number is None:
        ended = (-each.exit_code for each in evidence.rank_exits)
        number = next((each for each in (*ended, agent_signal(evidence)) if each in PREEMPTION), None)
    if number is None:
        return None
    name = signal.Signals(number).name
    reason = f"{name}, which batch schedulers send before they end a job, {where(evidence)}"
    return Verdict("preempted", reason)


def _other_node(evidence: Evidence) -> Verdict | None:
    """The failure of another node, which the ranks here only suffered from."""
    note = evidence.other_node
    if note is None or not is_consequence(evidence):
        return None
    return Verdict(note.ending or "refused", f"node {note.node} ({note.host}): {note.reason}")


def _hang(evidence: Evidence) -> Verdict | None:
    if evidence.silence is not None:
        silence = evidence.silence
        reason = f"no heartbeat for {silence.seconds:.0f} s {where(evidence)}{_states(silence)}"
        return Verdict("hang", reason, _inactive_rank(silence))
    error = root_error(evidence)
    if error is not None and _COLLECTIVE_TIMEOUT.search(error.message):
        return Verdict("hang", f"a collective timed out {where(evidence)}: {error.line}", error.rank)
    return _watchdog_abort(evidence)


def _watchdog_abort(evidence: Evidence) -> Verdict | None:
    """NCCL's watchdog aborts the process, and writes the reason to standard error only."""
    rank_exit = root_exit(evidence)
    if rank_exit is None or rank_exit.exit_code != -signal.SIGABRT:
        return None
    line = matching_line(evidence, rank_exit.rank, _COLLECTIVE_TIMEOUT)
    if line is None:
        return None
    return Verdict("hang", f"a collective timed out {where(evidence)}: {line}", rank_exit.rank)


def _operator_build(evidence: Evidence) -> Verdict | None:
    error = error_of_type(evidence, "OperatorBuildError")
    if error is None:
        return None
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    operator = lines[0].partition(":")[0]
    cause = next((line for line in lines if _COMPILER_ERROR.search(line)), None)
    return Verdict("operator_build", f"{operator}: {cause}" if cause else lines[0], error.rank)


def _loss_scale(evidence: Evidence) -> Verdict | None:
    error = error_of_type(evidence, "LossScaleStuckError")
    if error is not None:
        return Verdict("loss_scale_stuck", error.message)
    error = root_error(evidence)
    if error is None or not _SCALE_AT_MINIMUM.search(error.message):
        return None
    return Verdict("loss_scale_stuck", error.line)


def _nothing_learned(evidence: Evidence) -> Verdict | None:
    error = error_of_type(evidence, "NothingLearnedError")
    return None if error is None else Verdict("nothing_learned", error.message)


def _nonfinite(evidence: Evidence) -> Verdict | None:
    """A loss that is not finite explains a loss scale at its minimum, but not the reverse."""
    error = error_of_type(evidence, "NonFiniteLossError")
    if error is not None:
        return Verdict("nonfinite_loss", error.message)
    stuck, loss = _loss_scale(evidence), evidence.progress.loss
    if stuck is None or loss is None or math.isfinite(loss):
        return None
    return Verdict("nonfinite_loss", f"the loss was {loss} {where(evidence)}; {stuck.reason}")


def _killed_by_signal(evidence: Evidence) -> Verdict | None:
    rank_exit = root_exit(evidence)
    if rank_exit is None or rank_exit.signal_name is None or evidence.returncode is None:
        return None
    lines = evidence.lines.get(rank_exit.rank, ())
    last = f"; last line of its log: {lines[-1].strip()}" if lines else ""
    use = memory_use(evidence) if rank_exit.exit_code == -signal.SIGKILL else None
    memory = "" if use is None else f" with {use:.0%} of host memory in use"
    reason = f"rank {rank_exit.rank} was killed by {rank_exit.signal_name} {where(evidence)}{memory}{last}"
    return Verdict("rank_died", reason, rank_exit.rank)


def _agent_killed(evidence: Evidence) -> Verdict | None:
    number = agent_signal(evidence)
    if number is None or root_exit(evidence) is not None or root_error(evidence) is not None:
        return None
    name = signal.Signals(number).name
    reason = (
        f"the launcher that watches the ranks was killed by {name} {where(evidence)}; zpipe ended the ranks"
    )
    return Verdict("rank_died", reason)


def _launcher_left(evidence: Evidence) -> Verdict | None:
    """DeepSpeed's runner ends with 0 when its watcher is killed (deepspeed/launcher/runner.py)."""
    if evidence.returncode != 0 or root_exit(evidence) is not None or root_error(evidence) is not None:
        return None
    return Verdict("rank_died", f"the launcher ended before the ranks {where(evidence)}; zpipe ended them")


def _python_error(evidence: Evidence) -> Verdict | None:
    error = root_error(evidence)
    return None if error is None else Verdict("failed", f"rank {error.rank}: {error.line}", error.rank)


def _zpipe_killed(evidence: Evidence) -> Verdict | None:
    """Without a return code zpipe did not see the end: the workers end themselves when it is gone."""
    if evidence.returncode is not None:
        return None
    return Verdict("terminated", f"zpipe itself was killed {where(evidence)}, which also ended its workers")


def _exit_code(evidence: Evidence) -> Verdict | None:
    rank_exit = root_exit(evidence)
    if rank_exit is None:
        return None
    lines = evidence.lines.get(rank_exit.rank, ())
    last = f": {lines[-1].strip()}" if lines else ""
    return Verdict(
        "failed", f"rank {rank_exit.rank} exited with code {rank_exit.exit_code}{last}", rank_exit.rank
    )


RULES: tuple[Rule, ...] = (
    _folder_gone,
    _refused,
    _finished,
    _saved_and_stopped,
    _stopped,
    _other_node,
    _hang,
    _operator_build,
    _nonfinite,
    _loss_scale,
    _nothing_learned,
    gpu_memory,
    host_memory,
    disk,
    _killed_by_signal,
    _agent_killed,
    _launcher_left,
    _python_error,
    _zpipe_killed,
    _exit_code,
)


def _states(silence: Silence) -> str:
    if not silence.states:
        return ""
    return ": " + ", ".join(f"rank {rank} is {state}" for rank, state in silence.states.items())


def _inactive_rank(silence: Silence) -> int | None:
    """The rank whose process was stopped or gone, if there is exactly one."""
    inactive = [
        rank for rank, state in silence.states.items() if state in ("stopped", "tracing-stop", "gone")
    ]
    return inactive[0] if len(inactive) == 1 else None
