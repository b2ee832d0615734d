"""`python -m zpipe` and the console script `zpipe`."""

import sys

from zpipe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
