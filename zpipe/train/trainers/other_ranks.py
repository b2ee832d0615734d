"""The states of single ranks, for ranks that may not have existed when they were saved."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.trainer_pt_utils import safe_globals


def loss_file(rank: int) -> str:
    """The file with the losses of a rank since the last log entry."""
    return f"running_loss_{rank}.json"


def combined_losses(checkpoint: Path, ranks: int) -> dict[str, Any] | None:
    """The losses that give the same logged loss on any number of ranks: their mean is logged.

    None if the checkpoint has none.
    """
    files = [checkpoint / loss_file(rank) for rank in range(ranks)]
    if not all(file.is_file() for file in files):
        return None
    saved = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    window = sum(float.fromhex(each["window"]) for each in saved) / ranks
    return {**saved[0], "window": window.hex()}


def restore_random_states(checkpoint: Path, saved_ranks: int, rank: int, seed: int, step: int) -> None:
    """Those of the rank with the same number; a rank that did not exist begins with a seed of its own."""
    if rank >= saved_ranks:
        _seed(_derived_seed(seed, step, rank))
        return
    name = "rng_state.pth" if saved_ranks == 1 else f"rng_state_{rank}.pth"
    with safe_globals():
        saved = torch.load(checkpoint / name, weights_only=True)
    random.setstate(saved["python"])
    np.random.set_state(saved["numpy"])
    torch.random.set_rng_state(saved["cpu"])
    if torch.cuda.is_available() and "cuda" in saved:
        states = saved["cuda"]
        torch.cuda.set_rng_state(states[rank] if isinstance(states, list) else states)


def _derived_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
