"""Loads the tokenizer and encodes text as token ids."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.train.refusals import hub_message

Ids = NDArray[np.int32]

BYTES = "bytes"
BYTE_OFFSET = 3
"""In ByT5 the byte values follow pad, eos and unk."""

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

SAMPLE = "def f(x):\n\treturn 'Grüße, 世界 🌍'  # \x00"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, for tokenizers without a template. Saved with the model, so that inference uses it too."""


def load_tokenizer(plan: Plan) -> Any:
    """The plan's tokenizer (from transformers); raises Refusal if it cannot be loaded."""
    if plan.model.tokenizer == BYTES:
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer(extra_ids=0)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            expand_home(plan.model.tokenizer), trust_remote_code=plan.experiment.model.trust_remote_code
        )
    except Exception as error:  # Damaged files raise whatever the parser stumbles on.
        reraise_machine_error(error)
        key = "model.tokenizer" if plan.experiment.model.tokenizer else "model.name_or_path"
        raise Refusal(
            [
                Problem(
                    key=key,
                    value=plan.model.tokenizer,
                    reason=f"cannot load a tokenizer from it: {hub_message(error)}",
                    allowed="a local folder with tokenizer files, or a hub id",
                    fix=f"{key}=/path/to/folder",
                )
            ]
        ) from error


def expand_home(name: str) -> str:
    """A folder or hub id with a leading `~` expanded, which from_pretrained does not do."""
    return str(expanded(name)) if name.startswith("~") else name


@dataclass(frozen=True)
class Encoder:
    """Encodes texts without special tokens. The caller adds `prefix` and `eos`."""

    tokenizer: Any
    prefix: tuple[int, ...]
    """The bos id, if the tokenizer adds it to each text."""
    eos: int | None
    """The id that ends each document."""
    is_bytes: bool
    """Whether this is the byte-level tokenizer."""

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "Encoder":
        is_bytes = type(tokenizer).__name__ == "ByT5Tokenizer"
        encoder = cls(tokenizer, _bos_prefix(tokenizer), tokenizer.eos_token_id, is_bytes)
        if is_bytes:
            expected = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
            if encoder([SAMPLE])[0].tolist() != expected:
                raise RuntimeError(
                    "zpipe needs a ByT5 tokenizer that numbers bytes from 3; this release does not"
                )
        return encoder

    def __call__(self, texts: list[str]) -> list[Ids]:
        """The ids of each text, shape (tokens,), without special tokens."""
        if not texts:
            return []
        if self.is_bytes:
            # A thousand times faster than the tokenizer, which is pure Python.
            return [_byte_ids(text) for text in texts]
        return [np.asarray(ids, dtype=np.int32) for ids in self._tokenize(texts)["input_ids"]]

    def with_offsets(self, texts: list[str]) -> list[tuple[Ids, Ids]]:
        """The ids of each text, shape (tokens,), and their start and end characters, shape (tokens, 2).

        Only fast tokenizers have offsets.
        """
        encoded = self._tokenize(texts, return_offsets_mapping=True)
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [
            (np.asarray(ids, dtype=np.int32), np.asarray(offsets, dtype=np.int32).reshape(-1, 2))
            for ids, offsets in pairs
        ]

    def _tokenize(self, texts: list[str], **options: bool) -> Any:
        return self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **options
        )

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
        open_reply: bool = False,
    ) -> str:
        """The text of a conversation; `open_reply` appends the header of an assistant message."""

        def apply(chat: list[dict[str, Any]]) -> str:
            return self.tokenizer.apply_chat_template(
                chat,
                tools=tools or None,
                chat_template=self.template(tools),
                tokenize=False,
                add_generation_prompt=open_reply,
                **options,
            )

        if all("content" in message for message in messages):
            return apply(messages)
        try:
            return apply(messages)
        except Exception:
            # Many templates expect a text where a message has only tool calls.
            return apply([{"content": "", **message} for message in messages])

    def template(self, tools: list[dict[str, Any]] | None = None) -> str:
        """The chat template; of several, the one that transformers takes with or without tools."""
        if isinstance(self.tokenizer.chat_template, dict):
            return self.tokenizer.get_chat_template(tools=tools or None)
        return self.tokenizer.chat_template or CHAT_TEMPLATE

    def identity(self) -> str:
        """A digest of everything that affects the encoding."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = (
            backend.to_str()
            if backend is not None
            else json.dumps(sorted(self.tokenizer.get_vocab().items()))
        )
        template = json.dumps(self.tokenizer.chat_template or CHAT_TEMPLATE)
        parts = [type(self.tokenizer).__name__, rules, template, str(self.prefix), str(self.eos)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _byte_ids(text: str) -> Ids:
    return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int32) + BYTE_OFFSET


def _bos_prefix(tokenizer: Any) -> tuple[int, ...]:
    bos = tokenizer.bos_token_id
    of_empty_text = tokenizer("")["input_ids"]
    return (bos,) if bos is not None and of_empty_text[:1] == [bos] else ()
