"""Master weights that a checkpoint keeps in swap files, because its optimizer was offloaded to NVMe.

The shard then has an empty tensor for each sub-group that was swapped, and DeepSpeed copies the files of the
rank into the checkpoint. A file of master weights is named after the first and the last parameter of its
sub-group, by numbers that grow in the order in which the parameters were made
(deepspeed/runtime/zero/stage3.py, _create_fp32_partitions; runtime/swap_tensor/optimizer_utils.py,
SwapTensorContext).
"""

import math
import re
from pathlib import Path
from typing import Any

from zpipe.train.shards import Shards, ShardsError

_MASTER = re.compile(r"(\d+)_(\d+)\.tensor\.swp")
_BYTES = 4


def map_swapped_masters(shards: Shards) -> None:
    """Puts the swapped masters into the shards, mapped from their files. Raises ShardsError."""
    if shards.stage < 3:
        return
    for rank, saved in enumerate(shards.ranks):
        groups = saved["fp32_flat_groups"]
        swapped = [index for index, flat in enumerate(groups) if flat.numel() == 0]
        if not swapped:
            continue
        swapped.sort(key=lambda index: _place(shards, index))
        for index, file in zip(swapped, _files(shards, rank, len(swapped)), strict=True):
            groups[index] = _mapped(file, _elements(shards, index))


def _place(shards: Shards, group: int) -> int:
    """Where the first parameter of a sub-group is among those of the model."""
    names = list(shards.model_states[0]["module"])
    return names.index(next(iter(shards.model_states[0]["param_shapes"][group])))


def _elements(shards: Shards, group: int) -> int:
    """Of one rank."""
    shapes = shards.model_states[0]["param_shapes"][group].values()
    return sum(math.ceil(math.prod(shape) / shards.world_size) for shape in shapes)


def _files(shards: Shards, rank: int, count: int) -> list[Path]:
    folder = shards.folder / "offloaded_tensors" / f"rank{rank:02}"
    found = [(match, file) for file in folder.iterdir() if (match := _MASTER.fullmatch(file.name))]
    if len(found) != count:
        raise ShardsError(f"{folder} has {len(found)} files of master weights instead of {count}")
    return [file for _, file in sorted(found, key=lambda each: int(each[0][1]))]


def _mapped(file: Path, elements: int) -> Any:
    import torch

    if file.stat().st_size < elements * _BYTES:
        raise ShardsError(f"{file} has {file.stat().st_size} bytes instead of {elements * _BYTES}")
    return torch.from_file(str(file), shared=False, size=elements, dtype=torch.float32)
