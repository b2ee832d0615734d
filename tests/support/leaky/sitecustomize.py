"""Put first on PYTHONPATH, it makes every worker print secrets of its environment, as careless code does."""

import os
import sys

if "RANK" in os.environ:
    for name in os.environ.get("LEAK", "").split(","):
        print(f"connecting with {os.environ.get(name)} now", file=sys.stderr)
