"""The shards of a checkpoint are loaded without executing what is in them."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch

from zpipe.train.safe_loading import load_restricted


class Pickled:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def loaded(folder: Path, value: object) -> Any:
    torch.save({"value": value}, folder / "shard.pt")
    return load_restricted(str(folder / "shard.pt"))["value"]


def test_members_of_an_enum_are_loaded_however_python_pickles_them(tmp_path: Path) -> None:
    from deepspeed.runtime.zero.config import ZeroStageEnum

    assert loaded(tmp_path, ZeroStageEnum.weights) == 3
    assert loaded(tmp_path, Pickled(getattr, ZeroStageEnum, "weights")) == 3


@pytest.mark.parametrize("name", ["__class__", "mro", "weights.real", "__init__"])
def test_getattr_reaches_nothing_else(name: str, tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum

    for kind in (ZeroStageEnum, LossScaler):
        with pytest.raises(UnpicklingError):
            loaded(tmp_path, Pickled(getattr, kind, name))


def test_other_functions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnpicklingError):
        loaded(tmp_path, Pickled(print, "executed"))
