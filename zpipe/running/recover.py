"""Concludes a run whose zpipe was killed, from the files in its folder."""

from pathlib import Path

from zpipe.diagnose.evidence import from_folder
from zpipe.machine.samples import KEPT, read_samples
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import read_outcome
from zpipe.runfolder.plan_file import read_plan_here
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.running.conclusion import clean_up, conclude


def conclude_if_abandoned(run_dir: Path) -> None:
    """Writes the result.json and the post-mortem that are missing because zpipe was killed.

    Does nothing for a run that was never started or is still supervised. Of a run with a result, it removes
    what zpipe could not remove anymore.
    """
    folder = RunFolder(run_dir)
    attempt = folder.attempt
    is_concluded = read_outcome(folder) is not None
    if (is_concluded and not attempt.leftovers()) or not attempt.events.exists():
        return
    with folder.supervision() as is_ours:
        if not is_ours:
            return
        disk_reserve.release(attempt)
        plan = read_plan_here(folder)
        if is_concluded:
            clean_up(plan)
            return
        progress = RunProgress.of(RunEvents(folder).read_new())
        conclude(plan, from_folder(folder, progress, tuple(read_samples(attempt)[-KEPT:])))
