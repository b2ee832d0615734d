"""Waits for a job of a queue: shows its state, and the run once it has begun."""

import time
from collections.abc import Callable
from typing import NamedTuple

from zpipe.exits import Exit
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Ending, Outcome, read_outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.supervise.stops import Stopped
from zpipe.terminal.console import say
from zpipe.terminal.live import LiveDisplay

LOOK_SECONDS = 2.0
SILENT_LOOKS = 60
"""After which a job is given up whose state cannot be had."""


class JobState(NamedTuple):
    """What the queue says of a job."""

    name: str
    detail: str = ""
    is_active: bool = False
    is_known: bool = True


def follow(plan: Plan, title: str, look: Callable[[], JobState]) -> JobState:
    """Shows the state of the job, and of the run once it has begun; returns the last state."""
    progress, events = RunProgress(), RunEvents(folder_of(plan))
    shown, silent = "", 0
    with LiveDisplay(plan, progress) as display:
        while True:
            state = look()
            silent = 0 if state.is_known else silent + 1
            if not state.is_known and silent < SILENT_LOOKS:  # the queue may be restarting
                time.sleep(LOOK_SECONDS)
                continue
            text = f"{title}: {state.name.lower()}" + (f", {state.detail}" if state.detail else "")
            if text != shown:
                say(text)
                shown = text
            for event in events.read_new():
                progress.update(event)
                display.update(event)
            if not state.is_active:
                return state
            time.sleep(LOOK_SECONDS)


def outcome_in(folder: RunFolder, attempt: int) -> Outcome | None:
    """The outcome of the run, if its job came as far as this attempt, and this machine sees its folder."""
    return read_outcome(folder) if folder.attempt.number >= attempt else None


def left_to_the_queue(plan: Plan, job: str, stop: KeyboardInterrupt) -> Outcome:
    """The outcome of a zpipe that was stopped while its job goes on."""
    is_terminated = isinstance(stop, Stopped) and stop.exit_code == Exit.TERMINATED
    ending: Ending = "terminated" if is_terminated else "interrupted"
    return Outcome(ending=ending, reason=f"{job} goes on without zpipe", run_dir=plan.run_dir)
