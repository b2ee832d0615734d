"""Records a sweep afterwards, if its leading process was killed or could not reach MLflow."""

import shlex
from pathlib import Path

from zpipe.exits import Exit
from zpipe.runfolder.folder import RunFolder
from zpipe.sweep import ledger
from zpipe.sweep.definition import read_definition
from zpipe.sweep.session import close_sweep
from zpipe.terminal.console import show


def record_sweep(folder: Path, uri: str | None = None) -> Exit:
    """Brings every point up to date in MLflow and closes the sweep's run. Idempotent."""
    from zpipe.record.record_run import has_begun, usable_uri
    from zpipe.record.store import resolve_uri
    from zpipe.running.recording import record_now

    definition = read_definition(folder)
    assert definition is not None
    if definition.uri is None:
        show("this sweep was run without tracking")
        return Exit.FINISHED
    if uri is None:
        store = usable_uri(definition.uri, f"zpipe record {shlex.quote(str(folder))}")
    else:
        store = resolve_uri(uri, Path.cwd())
    is_complete = True
    for attempt in ledger.attempts(folder):
        run_dir = folder / attempt.folder
        if not RunFolder(run_dir).holds_run or not has_begun(RunFolder(run_dir)):
            continue
        result = record_now(run_dir, Path(definition.cwd), store)
        show(f"{attempt.folder}: {result.run_id if result.ok else result.error}")
        is_complete = is_complete and result.ok
        run_id = result.run_id or attempt.mlflow_run_id
        known = ledger.with_result(run_dir, attempt).model_copy(update={"mlflow_run_id": run_id})
        if known != attempt:
            ledger.append(folder, known)
    closed = close_sweep(folder, store, None if definition.whole else Exit.TERMINATED)
    is_complete = is_complete and closed != Exit.RECORD_INCOMPLETE
    return Exit.FINISHED if is_complete else Exit.RECORD_INCOMPLETE
