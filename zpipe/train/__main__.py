"""`python -m zpipe.train RUN_DIR`: one worker process."""

import sys
from pathlib import Path

from zpipe.train.worker import run

if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
