"""The model: pretrained, or an architecture with random weights."""

from typing import Any, Literal

from zpipe.schema.base import Group


class Model(Group):
    """A pretrained model, or an architecture with random weights."""

    name_or_path: str | None = None
    """A local folder or a hub id, loaded with from_pretrained."""
    config: dict[str, Any] = {}
    """transformers' configuration of an architecture with random weights; used without name_or_path."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null means the model's, or a byte tokenizer for random weights."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"] | None = None
    """Attention kernel; null lets transformers choose."""
    trust_remote_code: bool = False
    """Run Python code that a hub repository includes."""
