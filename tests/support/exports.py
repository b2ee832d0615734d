"""Exported folders, the weights that they must hold, and faults in what they are made from."""

import io
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.support.checkpoints import edit_manifest
from tests.support.process import SMALL
from zpipe.checkpoints.manifest import entries_of

LARGE = (
    *SMALL,
    "stage=2",
    "precision=bf16",
    "model.config.hidden_size=1024",
    "model.config.intermediate_size=2816",
    "model.config.num_hidden_layers=4",
    "model.config.num_attention_heads=8",
    "model.config.vocab_size=8192",
    "data.max_length=32",
    "train.max_steps=2",
    "checkpoint=default",
    "tracking.enabled=false",
)
"""53 million parameters, the largest of them in several pieces."""

Fault = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def deepspeeds_masters(checkpoint: Path) -> dict[str, Any]:
    """The fp32 weights as DeepSpeed merges them. It unpickles anything: only for own checkpoints."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return dict(get_fp32_state_dict_from_zero_checkpoint(str(checkpoint)))


def weights_in(folder: Path) -> dict[str, Any]:
    """Every tensor of a folder's safetensors files."""
    return {
        name: value
        for file in sorted(folder.glob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def predicted_peak(printed: str) -> int:
    """Bytes of host memory that an export has said that it will need at most."""
    (line,) = (line for line in printed.splitlines() if line.startswith("memory"))
    needed = re.findall(r"([\d.]+) (MiB|GiB)", line.partition(";")[0])
    return max(int(float(number) * {"MiB": 2**20, "GiB": 2**30}[unit]) for number, unit in needed)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of tensors that are not equal bit by bit, or that only one of the two has."""
    return sorted(
        name
        for name in {*one, *other}
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    )


def shards_of(checkpoint: Path) -> list[Path]:
    return sorted(checkpoint.glob("global_step*/*optim_states.pt"))


def renew_manifest(checkpoint: Path) -> None:
    """Makes the manifest agree with the files as they are now."""
    edit_manifest(checkpoint, files=[entry.model_dump() for entry in entries_of(checkpoint)])


def drop_tensor(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    del tensors["model.norm.weight"]
    save_file(tensors, checkpoint / WEIGHTS, {"format": "pt"})


def plant_nan(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, checkpoint / WEIGHTS, {"format": "pt"})


def swap_files(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def swap_shards(checkpoint: Path) -> None:
    one, other = shards_of(checkpoint)
    swap_files(one, other)


class _Executes:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self._file,))


def plant_code(checkpoint: Path, marker: Path) -> None:
    """Puts code that makes the marker into a shard, and beside the model as code of its own."""
    torch.save({"optimizer_state_dict": _Executes(marker)}, shards_of(checkpoint)[0])
    (checkpoint / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    config = checkpoint / "config.json"
    own_code = '{"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},'
    config.write_text(config.read_text().replace("{", own_code, 1))


def copy_of(run: Path, target: Path) -> Path:
    """A copy of a run folder that may be changed."""
    shutil.copytree(run, target, symlinks=True)
    return target
