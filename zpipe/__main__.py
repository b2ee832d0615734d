"""`python -m zpipe` and the console script `zpipe`."""

import gc
import sys

from zpipe.cli.main import main

if __name__ == "__main__":
    code = main()
    gc.freeze()  # Python would collect everything once more before it exits.
    sys.exit(code)
