"""`python -m zpipe` and the console script `zpipe`."""

import gc
import sys

from zpipe.cli.main import main
from zpipe.supervise.stops import ignore_signals


def run() -> None:
    """Ends this process with the exit code of the command."""
    code = main()
    ignore_signals()
    gc.freeze()  # Python would collect everything once more before it exits.
    sys.exit(code)


if __name__ == "__main__":
    run()
