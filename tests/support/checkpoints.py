"""Small checkpoints, and their damage."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zpipe.checkpoints.manifest import MANIFEST_NAME, Manifest, entries_of

SHARD = "global_step40/zero_pp_rank_0_mp_rank_00_optim_states.pt"
FILES: Mapping[str, bytes] = {
    "model.safetensors": bytes(range(256)),
    SHARD: b"rank 0" * 50,
    "global_step40/zero_pp_rank_1_mp_rank_00_optim_states.pt": b"rank 1" * 50,
    "latest": b"global_step40",
}


def make_checkpoint(
    run_dir: Path, step: int, run_id: str = "this-run", files: Mapping[str, bytes] = FILES
) -> Path:
    """A complete checkpoint with its manifest."""
    folder = run_dir / f"checkpoint-{step}"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    # Not written by write_manifest, which waits for the disk.
    (folder / MANIFEST_NAME).write_text(manifest_of(folder, step, run_id).model_dump_json())
    return folder


def manifest_of(folder: Path, step: int, run_id: str = "this-run") -> Manifest:
    return Manifest(
        run_id=run_id,
        step=step,
        epoch=0.5,
        world_size=1,
        stage=2,
        offload={"optimizer": "none", "parameters": "none"},
        dtype="bf16",
        plan_digest="0" * 32,
        versions={"deepspeed": "0.19.8"},
        time=1.5,
        files=entries_of(folder),
    )


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Changes keys of the manifest; `entry` changes keys of its first file."""
    file = folder / MANIFEST_NAME
    content = json.loads(file.read_text())
    content["files"][0].update(changes.pop("entry", {}))
    file.write_text(json.dumps({**content, **changes}))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:12])


def flip_bit(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
