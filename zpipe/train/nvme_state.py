"""Restores what DeepSpeed 0.19 leaves out when it loads a checkpoint of an optimizer that is on NVMe.

DeepSpeed copies the swap files back and reads the fp32 parameters from them, and nothing else
(deepspeed/runtime/engine.py, load_checkpoint): the moments of the swapped sub-groups would begin at zero, the
sub-groups that are too small to be swapped would keep their initial values, and steps and loss scale be lost.
"""

from pathlib import Path
from typing import Any

import torch

from zpipe.train.safe_loading import load_restricted


def restore_nvme_state(engine: Any, checkpoint: Path) -> None:
    """Call it after DeepSpeed has loaded the checkpoint; does nothing without an optimizer on NVMe."""
    if not engine.zero_nvme_offload_optimizer():
        return
    optimizer = engine.optimizer
    tag = (checkpoint / "latest").read_text(encoding="utf-8").strip()
    saved = load_restricted(engine._get_zero_ckpt_name(str(checkpoint), tag), "cpu")["optimizer_state_dict"]
    optimizer.loss_scaler = saved["loss_scaler"]
    optimizer.dynamic_loss_scale = saved["dynamic_loss_scale"]
    optimizer.overflow = saved["overflow"]
    _load_states(optimizer, saved["optimizer_state_dict"])
    for index, values in enumerate(saved["fp32_flat_groups"]):
        if optimizer._swappable_optimizer_subgroup(index):
            _register_swapped_states(optimizer, index)
        else:
            optimizer.fp32_partitioned_groups_flat[index].data.copy_(values.data)
            optimizer._reassign_or_swap_out_partitioned_parameters(index)
    # Persistent parameters were gathered before their values were restored.
    optimizer.checkpoint_event_epilogue()


def _load_states(optimizer: Any, states: dict[str, Any]) -> None:
    """Steps, settings, and the moments of the sub-groups in memory; those of the others are empty."""
    optimizer._set_fp32_optimizer_param_groups()
    optimizer.optimizer.load_state_dict(states)
    optimizer._clear_fp32_optimizer_param_groups()


def _register_swapped_states(optimizer: Any, index: int) -> None:
    """Tells the swapper of the states whose files DeepSpeed has copied, as if it had written them."""
    parameter = optimizer.fp32_partitioned_groups_flat[index]
    states = optimizer.optimizer.state[parameter]
    elements = int(optimizer.fp16_partitioned_groups_flat_numel[index])
    for name, value in list(states.items()):
        if torch.is_tensor(value) and value.numel() == 0:
            states[name] = torch.empty(elements, dtype=parameter.dtype)
    swapper = optimizer.optimizer_swapper
    info = swapper.swap_params_info[parameter.ds_id]
    swapper._update_param_state_info(info, parameter)
    info.release_memory()
