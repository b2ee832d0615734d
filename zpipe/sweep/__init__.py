"""Sweeps: one parent run in MLflow, a child run for each point, and a ledger from which the sweep is resumed.

Hydra's launchers start the points, possibly in other processes or on other machines. These share only the
sweep folder: `sweep.json` (the swept keys and the parent run) and `ledger.jsonl` (how each point ended).
"""

from zpipe.sweep.callback import SweepCallback

__all__ = ["SweepCallback"]
