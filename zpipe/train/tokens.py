"""The tokenizer, and the one thing that is asked of it: text in, ids out."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zpipe.plan.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.train.machine_errors import raise_if_machine

Ids = NDArray[np.int32]

BYTES = "bytes"
BYTE_OFFSET = 3
"""ByT5 numbers its bytes after pad, eos and unk."""

SAMPLE = "def f(x):\n\treturn 'Grüße, 世界 🌍'  # \x00"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For tokenizers that bring no template. It is saved with the model, so that inference uses the same."""


def load_tokenizer(plan: Plan) -> Any:
    """transformers' tokenizer of the plan; raises Refusal when there is none to be had."""
    if plan.model.tokenizer == BYTES:
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer(extra_ids=0)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            folder_or_id(plan.model.tokenizer), trust_remote_code=plan.experiment.model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise_if_machine(error)
        key = "model.tokenizer" if plan.experiment.model.tokenizer else "model.name_or_path"
        raise Refusal(
            [
                Problem(
                    key=key,
                    value=plan.model.tokenizer,
                    reason=f"no tokenizer can be loaded from it: {hub_error(error)}",
                    allowed="a local folder with tokenizer files, or a hub id that can be reached",
                    fix=f"{key}=/path/to/folder",
                )
            ]
        ) from error


def folder_or_id(name: str) -> str:
    """The name as from_pretrained takes it, which knows no `~`."""
    return str(Path(name).expanduser()) if name.startswith("~") else name


def first_line(error: BaseException) -> str:
    """What an upstream error says, without its paragraphs of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def hub_error(error: BaseException) -> str:
    """The same of something that may have been looked for on the hub: says so if that is out of reach."""
    said = first_line(error)
    offline = any(word in said.lower() for word in ("connect", "offline"))
    return f"offline, and not in the cache of this machine: {said}" if offline else said


@dataclass(frozen=True)
class Encoder:
    """Turns texts into ids. Adds nothing: `start` and `end` are for the caller to place."""

    tokenizer: Any
    start: tuple[int, ...]
    """What the tokenizer puts before a text of its own accord, such as bos."""
    end: int | None
    """eos, which ends each document."""
    as_bytes: bool

    @classmethod
    def of(cls, tokenizer: Any) -> "Encoder":
        as_bytes = type(tokenizer).__name__ == "ByT5Tokenizer"
        encoder = cls(tokenizer, _start(tokenizer), tokenizer.eos_token_id, as_bytes)
        if as_bytes:
            slow = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
            if encoder([SAMPLE])[0].tolist() != slow:
                raise RuntimeError("ByT5's tokenizer no longer numbers bytes from 3; zpipe relies on it")
        return encoder

    def __call__(self, texts: list[str]) -> list[Ids]:
        """The ids of each text, without special tokens around them."""
        if not texts:
            return []
        if self.as_bytes:
            # A thousand times faster than the Python tokenizer.
            return [_byte_ids(text) for text in texts]
        return [np.asarray(ids, dtype=np.int32) for ids in self._encoded(texts)["input_ids"]]

    def located(self, texts: list[str]) -> list[tuple[Ids, Ids]]:
        """The ids of each text, and where in it each begins and ends; only fast tokenizers know."""
        encoded = self._encoded(texts, return_offsets_mapping=True)
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [
            (np.asarray(ids, dtype=np.int32), np.asarray(places, dtype=np.int32).reshape(-1, 2))
            for ids, places in pairs
        ]

    def _encoded(self, texts: list[str], **more: bool) -> Any:
        return self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **more
        )

    def render(self, messages: list[dict[str, Any]], open_reply: bool = False) -> str:
        """The text of a conversation; `open_reply` adds what stands before an assistant's reply."""
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=open_reply, chat_template=self.chat_template
        )

    @property
    def chat_template(self) -> str:
        return self.tokenizer.chat_template or CHAT_TEMPLATE

    def identity(self) -> str:
        """A digest of everything that decides which ids a text gets."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = (
            backend.to_str()
            if backend is not None
            else json.dumps(sorted(self.tokenizer.get_vocab().items()))
        )
        parts = [type(self.tokenizer).__name__, rules, self.chat_template, str(self.start), str(self.end)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _byte_ids(text: str) -> Ids:
    return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int32) + BYTE_OFFSET


def _start(tokenizer: Any) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    alone = tokenizer("")["input_ids"]
    return (bos,) if bos is not None and alone[:1] == [bos] else ()
