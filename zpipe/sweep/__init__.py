"""A multirun: one parent run in MLflow, one child for each point, and a ledger from which it can be resumed.

Hydra's launchers start the points, possibly in other processes or on other machines; what they share is the
sweep folder: `sweep.json` (what is swept, and the parent run) and `ledger.jsonl` (which point ended how).
"""

from zpipe.sweep.callback import SweepCallback

__all__ = ["SweepCallback"]
