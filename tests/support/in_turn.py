"""python -m tests.support.in_turn FILE: trains several runs in one process, as a notebook does.

FILE has a list of overrides for each run. Prints a JSON line for each with its exit code and its reason.
"""

import json
import sys
from pathlib import Path

import zpipe

if __name__ == "__main__":
    for overrides in json.loads(Path(sys.argv[1]).read_text()):
        outcome = zpipe.run(*overrides, "launcher=inprocess")
        print("\n" + json.dumps({"exit_code": outcome.exit_code, "reason": outcome.reason}), flush=True)
