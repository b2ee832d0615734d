"""A run whose zpipe was killed: judged afterwards, by what lies in its folder."""

from pathlib import Path

from zpipe.diagnose.evidence import Heard, from_folder
from zpipe.machine.samples import KEPT, read_samples
from zpipe.plan.plan import read_plan
from zpipe.run.runner import conclude, tidy
from zpipe.runfolder.disk_reserve import give_up
from zpipe.runfolder.event_file import FILE_NAME as EVENTS_FILE
from zpipe.runfolder.event_file import EventReader
from zpipe.runfolder.outcome import read_outcome
from zpipe.supervise.supervisor import supervised


def conclude_if_abandoned(run_dir: Path) -> None:
    """Writes the result.json and the post-mortem that nobody lived to write.

    Does nothing for a run that has a result, was never started, or is still supervised.
    """
    if read_outcome(run_dir) is not None or not (run_dir / EVENTS_FILE).exists():
        return
    with supervised(run_dir) as is_ours:
        if not is_ours:
            return
        give_up(run_dir)
        plan = read_plan(run_dir).model_copy(update={"run_dir": str(run_dir)})
        tidy(plan)
        heard = Heard()
        for event in EventReader(run_dir).read_new():
            heard.hear(event)
        conclude(plan, from_folder(run_dir, heard, tuple(read_samples(run_dir)[-KEPT:])))
