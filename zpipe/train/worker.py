"""One worker process: runs the task of the plan and reports how it ended."""

import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from zpipe.exits import Exit
from zpipe.problems import Refusal
from zpipe.redact import redact
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import Failed, Refused
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.latest_links import link_latest
from zpipe.runfolder.plan_file import read_plan
from zpipe.train.metrics import reset_peaks
from zpipe.train.ranks import Rank
from zpipe.train.tasks.train import train

WAIT_FOR_RANK_0_SECONDS = 20.0


def run(run_dir: Path) -> int:
    """Runs the plan in `run_dir` as one rank; returns an `Exit` code.

    Rank 0 reports its progress in events.jsonl; OSError is raised only if that file cannot be opened. A rank
    that fails, or refuses what rank 0 accepts, leaves `rank<R>.error.json`.
    """
    reset_peaks()
    rank, attempt = Rank.from_environment(), RunFolder(run_dir).attempt
    reporter = Reporter(attempt.events if rank.is_main else None)
    if rank.is_main:
        link_latest(attempt)
    code = _exit_code(run_dir, attempt, rank, reporter)
    try:
        reporter.close()
    except OSError as error:
        return _failed(error, attempt, rank, reporter) if code == Exit.FINISHED else code
    return code


def _exit_code(run_dir: Path, attempt: Attempt, rank: Rank, reporter: Reporter) -> int:
    try:
        train(read_plan(run_dir), rank, reporter)
        return Exit.FINISHED
    except Refusal as refusal:
        return _refused(refusal, attempt, rank, reporter)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        return _failed(error, attempt, rank, reporter)


def _refused(refusal: Refusal, attempt: Attempt, rank: Rank, reporter: Reporter) -> int:
    """Rank 0 reports for all ranks; another rank that outlives the wait refused what rank 0 accepted."""
    if not rank.is_main:
        # torchrun ends the other ranks when the first one exits: rank 0 must have reported by then.
        time.sleep(WAIT_FOR_RANK_0_SECONDS)
        _leave_error(refusal, attempt, rank)
        return Exit.REFUSED
    try:
        reporter.report(Refused.of(refusal.problems))
    except OSError as error:
        return _failed(error, attempt, rank, reporter)
    return Exit.REFUSED


def _failed(error: Exception, attempt: Attempt, rank: Rank, reporter: Reporter) -> int:
    failure = _leave_error(error, attempt, rank)
    with suppress(OSError):
        reporter.report(failure)
    return Exit.FAILED


def _leave_error(error: Exception, attempt: Attempt, rank: Rank) -> Failed:
    """Writes the traceback to the run folder and to stderr, as far as the disk has room."""
    disk_reserve.release(attempt)
    text = redact("".join(traceback.format_exception(error)))
    failure = Failed(type=type(error).__name__, message=redact(str(error)))
    details = {"rank": rank.index, "type": failure.type, "message": failure.message}
    with suppress(OSError):
        write_json(attempt.rank_error(rank.index), {**details, "traceback": text, "time": failure.time})
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return failure
