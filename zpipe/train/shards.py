"""Reads whole parameters, and the states of their optimizer, from the shards of a ZeRO checkpoint.

DeepSpeed writes one file for each rank. At stages 1 and 2 it holds a part of each flat group, with the place
of every parameter (deepspeed/runtime/zero/stage_1_and_2.py, state_dict). At stage 3 it holds a part of every
parameter, in the order of `param_shapes` (stage3.py, _rigid_state_dict). The files are mapped into memory:
what is read at once is one parameter.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zpipe.train.safe_loading import load_restricted

MASTER = "fp32"
"""The name of the master weights, beside those of the optimizer's states."""


class ShardsError(RuntimeError):
    """The shards do not hold what a parameter needs."""


@dataclass(frozen=True)
class Fragment:
    """A range of a flattened parameter, and where it lies in the flat tensors of one rank."""

    rank: int
    group: int
    """The index of the flat tensor: of the parameter group, or at stage 3 of the sub-group."""
    start: int
    numel: int


class Shards:
    """The shards of one checkpoint. Verify the checkpoint before: only classes of DeepSpeed are unpickled."""

    def __init__(self, checkpoint: Path) -> None:
        """Raises OSError for a missing file and ShardsError for a checkpoint without ZeRO shards."""
        tag = (checkpoint / "latest").read_text(encoding="utf-8").strip()
        self.folder = checkpoint / tag
        files = sorted(self.folder.glob("*zero_pp_rank_*_optim_states.pt"), key=_rank_of)
        if not files or [_rank_of(file) for file in files] != list(range(len(files))):
            raise ShardsError(f"{self.folder} has no complete set of ZeRO shards")
        self.ranks = [_mapped(file)["optimizer_state_dict"] for file in files]
        # BF16_Optimizer, which wraps an optimizer at stage 1, does not write the stage.
        self.stage = int(self.ranks[0].get("zero_stage", 1))
        self.world_size = len(files)

    @cached_property
    def model_states(self) -> list[dict[str, Any]]:
        """What is not partitioned: of each rank at stage 3, otherwise of rank 0 alone."""
        if self.stage < 3:
            return [_mapped(self.folder / "mp_rank_00_model_states.pt")]
        name = "zero_pp_rank_{}_mp_rank_00_model_states.pt"
        return [_mapped(self.folder / name.format(rank)) for rank in range(self.world_size)]

    def names(self) -> list[str]:
        """The parameters that are trained, by their names in the model. Of tied ones, the first name."""
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def state_names(self) -> list[str]:
        """The optimizer's states with a value for each element, such as exp_avg."""
        flat, states = self.flat(0, 0, MASTER), self.states(0, 0)
        return [name for name, value in states.items() if _is_flat(value, flat.numel())]

    def master(self, name: str) -> Any:
        """The fp32 master weights, as a new tensor in host memory. Raises ShardsError."""
        return self.state(name, MASTER)

    def state(self, name: str, key: str) -> Any:
        """A state of the optimizer in the shape of the parameter, as a new tensor. Raises ShardsError."""
        import torch

        parts = [
            self.flat(each.rank, each.group, key)[each.start : each.start + each.numel]
            for each in self._fragments.get(name, [])
        ]
        found, shape = sum(part.numel() for part in parts), self.shape(name)
        if found != math.prod(shape):
            raise ShardsError(f"{key} of {name} has {found} elements in {self.folder}, its shape is {shape}")
        return torch.cat(parts).view(shape)

    def flat(self, rank: int, group: int, key: str) -> Any:
        """The flat tensor of a rank and a group. It is mapped: do not change it. Raises ShardsError."""
        saved = self.ranks[rank]
        if key == MASTER:
            return saved["fp32_flat_groups" if self.stage == 3 else "single_partition_of_fp32_groups"][group]
        value = self.states(rank, group).get(key)
        if value is None:
            raise ShardsError(f"rank {rank} in {self.folder} has no {key} for group {group}")
        return value

    def states(self, rank: int, group: int) -> dict[str, Any]:
        """The states of the optimizer for a flat tensor: flat tensors, and values such as the step."""
        found: dict[str, Any] = self._optimizer(rank)["state"].get(group, {})
        return found

    def settings(self) -> list[dict[str, Any]]:
        """The optimizer's settings for each parameter group, such as its learning rate."""
        groups = self._optimizer(0)["param_groups"]
        return [{key: value for key, value in group.items() if key != "params"} for group in groups]

    def buffers(self) -> dict[str, Any]:
        """The persistent buffers of the model, by name."""
        saved = self.model_states[0]
        return {name: saved["module"][name] for name in saved["buffer_names"]}

    def tied(self) -> dict[str, str]:
        """Names that share the weights of a parameter of another name, which `names` has."""
        return dict(self.model_states[0]["shared_params"] or {})

    def frozen_names(self) -> list[str]:
        """The parameters that are not trained."""
        shapes = self.model_states[0]["frozen_param_shapes"]
        if shapes is not None:
            return list(shapes)
        known = {*self.names(), *self.tied(), *self.model_states[0]["buffer_names"]}
        return [name for name in self.model_states[0]["module"] if name not in known]

    def frozen(self, name: str) -> Any:
        """A parameter that is not trained, in its own dtype, as a new tensor."""
        import torch

        saved = self.model_states[0]
        if self.stage < 3:
            return saved["module"][name].clone()
        shape = saved["frozen_param_shapes"][name]
        parts = [each["frozen_param_fragments"][name] for each in self.model_states]
        return torch.cat(parts)[: math.prod(shape)].view(shape)

    def _optimizer(self, rank: int) -> Any:
        name = "optimizer_state_dict" if self.stage == 3 else "base_optimizer_state"
        return self.ranks[rank][name]

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        groups = self.model_states[0]["param_shapes"]
        return {name: tuple(shape) for group in groups for name, shape in group.items()}

    @cached_property
    def _fragments(self) -> Mapping[str, list[Fragment]]:
        """Those of each parameter in the order of its elements."""
        found: dict[str, list[Fragment]] = {}
        for name, fragment in self._partitioned() if self.stage == 3 else self._mapped_places():
            found.setdefault(name, []).append(fragment)
        return found

    def _mapped_places(self) -> Iterator[tuple[str, Fragment]]:
        """Stages 1 and 2: ranks hold consecutive parts of a group."""
        for rank, saved in enumerate(self.ranks):
            for group, places in enumerate(saved["param_slice_mappings"]):
                for name, place in places.items():
                    yield name, Fragment(rank, group, int(place.start), int(place.numel))

    def _partitioned(self) -> Iterator[tuple[str, Fragment]]:
        """Stage 3: every rank has an equal part of every parameter; the last parts are padded."""
        for group, shapes in enumerate(self.model_states[0]["param_shapes"]):
            start = 0
            for name, shape in shapes.items():
                numel = math.prod(shape)
                part = math.ceil(numel / self.world_size)
                for rank in range(self.world_size):
                    yield name, Fragment(rank, group, start, max(0, min(part, numel - rank * part)))
                start += part


def _mapped(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = load_restricted(str(file), "cpu", mapped=True)
    return loaded


def _rank_of(file: Path) -> int:
    return int(file.name.partition("zero_pp_rank_")[2].partition("_")[0])


def _is_flat(value: Any, numel: int) -> bool:
    """At stages 1 and 2 the states end with the padding of the group, the master weights do not."""
    import torch

    return torch.is_tensor(value) and value.dim() == 1 and value.numel() >= numel
