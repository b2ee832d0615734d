"""`python -m zpipe.train RUN_DIR`: one worker process."""

import sys
from pathlib import Path

from zpipe.exits import Exit
from zpipe.train.parent import end_with_parent
from zpipe.train.worker import leave_group, run

if __name__ == "__main__":
    end_with_parent()
    code = run(Path(sys.argv[1]))
    if code == Exit.FINISHED:
        leave_group()
    sys.exit(code)
