"""The model: pretrained, or an architecture with random weights."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from zpipe.schema.base import Group

_HUB_KERNEL = re.compile(r"kernels-community/[\w.-]+(@[\w.-]+)?(:\w+)?")
"""As transformers reads it: REPOSITORY, @REVISION, :FUNCTION; it trusts no other organization."""


def is_hub_kernel(name: str) -> bool:
    """Whether this attention is code that transformers downloads from the hub."""
    return _HUB_KERNEL.fullmatch(name) is not None


def _hub_kernel(name: str) -> str:
    if not is_hub_kernel(name):
        raise ValueError("a kernel of the hub: kernels-community/NAME")
    return name


Attention = Literal[
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"
]
HubKernel = Annotated[str, AfterValidator(_hub_kernel)]


class Model(Group):
    """A pretrained model, or an architecture with random weights."""

    name_or_path: str | None = None
    """A local folder or a hub id, loaded with from_pretrained."""
    config: dict[str, Any] = {}
    """transformers' configuration of an architecture with random weights; used without name_or_path."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null means the model's, or a byte tokenizer for random weights."""
    attn_implementation: Attention | HubKernel | None = None
    """Attention kernel, also one of the hub (kernels-community/NAME); null lets transformers choose."""
    trust_remote_code: bool = False
    """Run Python code that a hub repository includes."""
