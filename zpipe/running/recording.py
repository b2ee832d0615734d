"""Records a run that has ended, and keeps what became of it in result.json."""

from pathlib import Path

from zpipe.record.follower import RecordResult
from zpipe.record.record_run import record_run
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import read_outcome
from zpipe.running.conclusion import save_record
from zpipe.running.recover import conclude_if_abandoned


def record_now(run_dir: Path, base: Path | None = None, uri: str | None = None) -> RecordResult:
    """Concludes a run whose zpipe was killed, and brings MLflow up to date with it.

    Also where MLflow had everything, and has lost the run since.
    """
    conclude_if_abandoned(run_dir)
    result = record_run(run_dir, base, uri, look=True)
    outcome = read_outcome(RunFolder(run_dir))
    if outcome is not None and result.ok:
        save_record(RunFolder(run_dir), outcome, result)
    return result
