"""Imports what a run on the CPU needs. tests/support/preloaded.py has this imported before it forks."""

import gc
import importlib
import os

MODULES = (
    "torch",
    "deepspeed",
    "transformers",
    "datasets",
    "mlflow",
    "zpipe.cli.run",
    "zpipe.compose.job",
    "zpipe.train.tasks.train",
    "zpipe.train.trainers.causal_lm",
)

os.environ.update(DS_ACCELERATOR="cpu", HF_HUB_OFFLINE="1")
for module in MODULES:
    importlib.import_module(module)
# A child of a process with OpenMP threads hangs in its first parallel region.
importlib.import_module("torch").set_num_threads(1)
gc.freeze()
