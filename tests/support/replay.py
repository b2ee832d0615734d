"""A run without training: one process replays a prepared event file while another records it.

python -m tests.support.replay RUN_DIR EVENTS SECONDS [write]
"""

import subprocess
import sys
import time
from pathlib import Path

from zpipe.record.recorder_thread import RecorderThread
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan


def write(run_dir: Path, prepared: Path, seconds: float) -> None:
    """Appends the lines over `seconds`, each in two writes, so that a kill can leave an incomplete line."""
    lines = prepared.read_bytes().splitlines(keepends=True)
    events = RunFolder(run_dir).attempt.events
    events.parent.mkdir(exist_ok=True)
    with events.open("ab", buffering=0) as file:
        for line in lines:
            file.write(line[:20])
            time.sleep(seconds / len(lines))
            file.write(line[20:])


def record(run_dir: Path, prepared: Path, seconds: float) -> None:
    """Starts the writer and records until it exits."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.support.replay", str(run_dir), str(prepared), str(seconds), "write"]
    )
    thread = RecorderThread(read_plan(run_dir), base=run_dir.parent, poll_seconds=0.05)
    thread.start()
    writer.wait()
    thread.finish("FINISHED")


if __name__ == "__main__":
    action = write if sys.argv[4:] == ["write"] else record
    action(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
