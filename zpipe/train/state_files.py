"""Lets the files that DeepSpeed and transformers write for a checkpoint be written by a Save.

DeepSpeed's own writers (checkpoint.writer) fail with torch 2.6 and later (docs/checkpoints.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zpipe.checkpoints.streamed_file import StreamedFile
from zpipe.train.safetensors_file import can_write, write_safetensors
from zpipe.train.save import Save


@contextmanager
def redirected_to(save: Save) -> Iterator[None]:
    """Within it, torch.save of DeepSpeed's engine and safetensors of transformers go to this save."""
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from transformers import modeling_utils

    library_save_file, engine_save = modeling_utils.safe_save_file, TorchCheckpointEngine.save

    def save_states(engine: Any, state_dict: Any, path: str) -> None:
        write = partial(_write_pickle, is_zip=engine.zipfile_serialization)
        save.add(Path(path), state_dict, write)

    def save_weights(tensors: dict[str, torch.Tensor], filename: Any, metadata: Any = None) -> None:
        if tensors and can_write(tensors):  # transformers removes a file without tensors at once
            save.add(Path(filename), tensors, partial(_write_weights, metadata=metadata or {}))
        else:
            library_save_file(tensors, filename, metadata=metadata)

    TorchCheckpointEngine.save = save_states
    modeling_utils.safe_save_file = save_weights
    try:
        yield
    finally:
        TorchCheckpointEngine.save = engine_save
        modeling_utils.safe_save_file = library_save_file


def _write_pickle(state: Any, file: StreamedFile, is_zip: bool) -> None:
    stream: Any = file
    torch.save(state, stream, _use_new_zipfile_serialization=is_zip)


def _write_weights(state: Any, file: StreamedFile, metadata: dict[str, str]) -> None:
    on_host = {name: tensor.cpu() for name, tensor in state.items()}
    write_safetensors(on_host, metadata, file)
