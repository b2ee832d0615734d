"""Loads DeepSpeed's checkpoints without executing what is in them.

DeepSpeed unpickles anything (deepspeed/runtime/checkpoint_engine/torch_checkpoint_engine.py). PyTorch's
restricted unpickler accepts tensors, plain values and the classes listed here.
"""

from enum import Enum
from pickle import UnpicklingError
from typing import Any


def restrict_unpickling() -> None:
    """Makes DeepSpeed's checkpoint engine refuse every other class."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    TorchCheckpointEngine.load = _load


def _load(engine: Any, path: str, map_location: Any = None) -> Any:
    del engine
    return load_restricted(path, map_location)


def load_restricted(path: str, map_location: Any = None, *, mapped: bool = False) -> Any:
    """What torch.save wrote. Raises pickle.UnpicklingError for a file that needs another class.

    The tensors of a mapped file are read from the disk when they are used.
    """
    import torch

    with torch.serialization.safe_globals(_classes()):
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)


def _classes() -> list[Any]:
    """What DeepSpeed 0.19 saves beside tensors: its version of a partition, loss scalers, ZeRO's stage."""
    from deepspeed.runtime.fp16 import loss_scaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    classes = [loss_scaler.DynamicLossScaler, loss_scaler.LossScaler, ZeroStageEnum, fragment_address]
    return [*classes, (_member, "builtins.getattr")]


def _member(kind: Any, name: str) -> Enum:
    """What `getattr` stands for in a checkpoint: Python 3.11.2 and its like pickle members of an Enum so."""
    if isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__:
        return kind[name]
    raise UnpicklingError(f"not a member of an Enum: {name}")
