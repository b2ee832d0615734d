"""`python -m zpipe.train RUN_DIR`: one worker process."""

import faulthandler
import signal
import sys
from pathlib import Path

from zpipe.exits import Exit
from zpipe.runfolder.folder import RunFolder
from zpipe.train.light_imports import leave_out_mlflow
from zpipe.train.parent_watch import exit_with_parent
from zpipe.train.process_group import leave_group
from zpipe.train.ranks import Rank, renumber
from zpipe.train.signals import stop_on_signals
from zpipe.train.worker import run

if __name__ == "__main__":
    # The supervisor requests the stack trace of a hanging rank with this signal.
    faulthandler.register(signal.SIGUSR2, all_threads=False)
    renumber()
    stop_on_signals(RunFolder(Path(sys.argv[1])).attempt, Rank.from_environment().index)
    exit_with_parent()
    leave_out_mlflow()
    code = run(Path(sys.argv[1]))
    if code == Exit.FINISHED:
        leave_group()
    sys.exit(code)
