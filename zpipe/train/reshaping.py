"""Loads a checkpoint that another number of processes, or another stage of ZeRO, has written.

Every rank reads the elements that it owns from the shards of all ranks, and gives them to DeepSpeed in the
form in which it would have saved them itself. Values are copied, never computed: master weights and moments
stay what they were, bit by bit. Nothing is written to the disk.

DeepSpeed's universal checkpoints do the same by way of a second copy on the disk. Their loader unpickles
without restriction; at stage 3 it takes the settings of the first parameter group for all groups, such as the
weight decay, and knows no states but those of Adam (deepspeed/runtime/zero/stage3.py,
load_hp_checkpoint_state_from_checkpoint_dir_stage3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zpipe.train.shards import MASTER, Shards, ShardsError

Progress = Callable[[int, int], None]
"""Called with the number of parameters that are done, and of all of them."""


@dataclass(frozen=True)
class Target:
    """A flat tensor of this rank."""

    numel: int
    places: "list[Place]"
    first: str
    """A parameter of the same group: a rank may own no element of a small group."""


@dataclass(frozen=True)
class Place:
    """Where a range of a flattened parameter belongs in a flat tensor of this rank."""

    name: str
    start: int
    """In the flat tensor."""
    begin: int
    """In the parameter."""
    numel: int


def load_reshaped(engine: Any, checkpoint: Path, progress: Progress) -> None:
    """DeepSpeed's `load_checkpoint` for a checkpoint of another shape. Call it on every rank.

    Raises ShardsError if the checkpoint does not have what the model needs.
    """
    shards, optimizer = Shards(checkpoint), engine.optimizer
    targets = list(_targets(engine))
    _compare_names(shards, engine)
    stage3 = engine.zero_optimization_partition_weights()
    if stage3:
        optimizer.checkpoint_event_prologue()
    saved = _Assembly(shards, targets, progress).saved_by(optimizer, stage3)
    engine.module.load_state_dict(shards.buffers(), strict=False)
    ranks = int(engine.dp_world_size)
    optimizer.load_state_dict([saved] * ranks, load_optimizer_states=True, load_from_fp32_weights=True)
    if stage3:
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].partition(optimizer.persistent_parameters)
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()
    _load_counters(engine, shards.model_states[0])


def _load_counters(engine: Any, saved: dict[str, Any]) -> None:
    """As in deepspeed/runtime/engine.py, _load_checkpoint."""
    if engine.lr_scheduler is not None:
        engine.lr_scheduler.load_state_dict(saved["lr_scheduler"])
    for name in ("global_steps", "global_samples", "skipped_steps"):
        setattr(engine, name, saved[name])


def _compare_names(shards: Shards, engine: Any) -> None:
    """Every trained parameter of the model must be in the shards, in the same shape, and no other."""
    trained = {
        engine.param_names[each]: _shape(each) for each in engine.module.parameters() if each.requires_grad
    }
    saved = {name: shards.shape(name) for name in shards.names()}
    differing = sorted(name for name in {*trained, *saved} if trained.get(name) != saved.get(name))
    if differing:
        raise ShardsError(f"the model has other parameters than the checkpoint: {', '.join(differing[:3])}")
    if shards.frozen_names():
        raise ShardsError("parameters that are not trained cannot be loaded in another shape")


def _shape(parameter: Any) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _targets(engine: Any) -> Iterator[Target]:
    """The flat master weights of this rank, one for each group, with the places of the parameters in them."""
    optimizer, names = engine.optimizer, engine.param_names
    if engine.zero_optimization_partition_weights():
        groups = zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True)
        for group, flat in groups:
            places = list(_partitioned(group, names, optimizer))
            yield Target(flat.numel(), places, names[group[0]])
        return
    # BF16_Optimizer, which may wrap an optimizer at stage 1, has other names for the same.
    is_bf16 = hasattr(optimizer, "fp32_groups_flat_partition")
    parameters = optimizer.bf16_groups if is_bf16 else optimizer.bit16_groups
    flats = optimizer.fp32_groups_flat_partition if is_bf16 else optimizer.single_partition_of_fp32_groups
    for group, flat in zip(parameters, flats, strict=True):
        places = [_mapped(each, names) for each in group if each._hp_mapping is not None]
        yield Target(flat.numel(), places, names[group[0]])


def _mapped(parameter: Any, names: Any) -> Place:
    mapping = parameter._hp_mapping
    master, own = mapping.get_hp_fragment_address(), mapping.lp_fragment_address
    return Place(names[parameter], int(master.start), int(own.start), int(own.numel))


def _partitioned(parameters: list[Any], names: Any, optimizer: Any) -> Iterator[Place]:
    import torch.distributed as dist

    rank, start = dist.get_rank(group=optimizer.dp_process_group), 0
    for parameter in parameters:
        part = int(parameter.partition_numel())
        begin = min(rank * part, int(parameter.ds_numel))
        yield Place(names[parameter], start, begin, min(part, int(parameter.ds_numel) - begin))
        start += part


class _Assembly:
    """Puts together what this rank would have saved."""

    def __init__(self, shards: Shards, targets: list[Target], progress: Progress) -> None:
        self._shards, self._targets, self._progress = shards, targets, progress
        self._all = sum(len(target.places) for target in targets)
        self._done = 0

    def saved_by(self, optimizer: Any, stage3: bool) -> dict[str, Any]:
        """The state dict of DeepSpeed's optimizer for this rank."""
        flats = [self._flat_tensors(target) for target in self._targets]
        masters = [tensors.pop(MASTER) for tensors in flats]
        states = {"state": dict(enumerate(flats)), "param_groups": self._settings(optimizer, stage3)}
        first = self._shards.ranks[0]
        common = {
            name: first.get(name, getattr(optimizer, name, None))
            for name in ("loss_scaler", "dynamic_loss_scale", "overflow")
        }
        if stage3:
            return {**common, "optimizer_state_dict": states, "fp32_flat_groups": masters}
        return {
            **common,
            "base_optimizer_state": states,
            "single_partition_of_fp32_groups": masters,
            # The places are those of this engine.
            "param_alignment_paddings": getattr(optimizer, "round_robin_bit16_padding", None),
            "ds_version": self._shards.model_states[0]["ds_version"],
        }

    def _flat_tensors(self, target: Target) -> dict[str, Any]:
        """Master weights and states of one group; what no parameter owns is padding, and zero."""
        import torch

        keys = [MASTER, *self._shards.state_names()]
        dtypes = {key: self._shards.flat(0, 0, key).dtype for key in keys}
        tensors: dict[str, Any] = {key: torch.zeros(target.numel, dtype=dtypes[key]) for key in keys}
        for place in target.places:
            for key in keys:
                values = self._shards.part(place.name, key, place.begin, place.numel)
                tensors[key][place.start : place.start + place.numel] = values
            self._done += 1
            self._progress(self._done, self._all)
        return tensors | self._shards.values(target.first)

    def _settings(self, optimizer: Any, stage3: bool) -> list[dict[str, Any]]:
        """The saved settings of each parameter group, with the flat tensors that the group now has."""
        if stage3:
            optimizer._set_fp32_optimizer_param_groups()
        now = optimizer.optimizer.state_dict()["param_groups"]
        if stage3:
            optimizer._clear_fp32_optimizer_param_groups()
        saved = self._shards.settings()
        if len(now) != len(saved):
            raise ShardsError(
                f"the checkpoint has {len(saved)} groups of parameters, the optimizer {len(now)}"
            )
        return [{**group, **values} for group, values in zip(now, saved, strict=True)]
