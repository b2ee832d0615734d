"""Which columns hold the examples, and which columns are left out."""

from collections.abc import Collection, Iterable

from zpipe.data.refusals import data_path_refusal
from zpipe.problems import Problem, Refusal, nearest
from zpipe.schema.data import Data

LAYOUTS = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}
"""The columns of each layout, in the order in which `data.columns=auto` tries them."""

READ_BY_TEMPLATES = ("tools", "chat_template_kwargs")
"""Columns that are read beside messages, where they exist."""

OTHER_TOOLS_READ = frozenset(
    {
        *("image", "images", "video", "videos", "audio", "audios", "system", "history", "tools"),
        *("weight", "weights", "loss_weight", "sample_weight", "chosen", "rejected", "label", "labels"),
        *("input_ids", "completion_mask", "assistant_masks", "chat_template_kwargs"),
    }
)
"""Columns that other training tools act on, so that leaving them out changes what is learned."""

KNOWN_ELSEWHERE = {
    "conversations": "rename it to messages, and in each message from to role and value to content",
    "conversation": "rename it to messages",
    "instruction": "rename instruction (and input) to prompt, and output to completion",
    "question": "rename question to prompt, and answer to completion",
    "response": "rename it to completion",
    "content": "rename it to text",
    "input_ids": "zpipe tokenizes the data itself: give it the text",
    "chosen": "zpipe has no preference training: rename chosen to completion, or to messages",
}


def choose_layout(data: Data, columns: Collection[str]) -> str:
    """The layout in LAYOUTS to use for these columns; raises Refusal if none fits `data.columns`."""
    candidates = LAYOUTS if data.columns == "auto" else {data.columns: LAYOUTS[data.columns]}
    for layout, needed in candidates.items():
        if set(needed) <= set(columns):
            return layout
    reason = f"no usable columns; the data has {_listed(columns)}{_hint(columns)}"
    allowed = "; ".join(" and ".join(needed) for needed in candidates.values())
    if data.columns == "auto":
        raise data_path_refusal(data.path, reason, allowed=allowed)
    raise Refusal([Problem("data.columns", data.columns, reason, allowed, "data.columns=auto")])


def columns_left_out(layout: str, has_messages: bool, columns: Iterable[str]) -> tuple[list[str], list[str]]:
    """The columns that this layout does not read: those that other tools act on, and the others."""
    read = (*LAYOUTS[layout], *(READ_BY_TEMPLATES if has_messages else ()))
    unread = [name for name in columns if name and name not in read]
    serious = [name for name in unread if name in OTHER_TOOLS_READ]
    return serious, [name for name in unread if name not in serious]


def _listed(columns: Collection[str]) -> str:
    shown = [name if len(name) <= 40 else f"{name[:40]}…" for name in map(str, columns)]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "") if shown else "none"


def _hint(columns: Collection[str]) -> str:
    for name, advice in KNOWN_ELSEWHERE.items():
        if name in columns:
            return f" ({advice})"
    needed = [name for names in LAYOUTS.values() for name in names]
    for name in columns:
        near = nearest(name.strip().lower(), needed, most=1)
        if near and near[0] != name:
            return f" (is {name} meant to be {near[0]}?)"
    return ""
