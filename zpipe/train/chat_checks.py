"""Finds what a chat template leaves out: text that would not be learned, and headers of inference."""

import json
import re
from typing import Any

from zpipe.data.messages import REASONING_KEYS, Conversation
from zpipe.train.tokens import Encoder

STRUCTURE = frozenset({"role", "content", *REASONING_KEYS, "tool_calls", "function_call"})
END_OF_REASONING = "</think>"
LINE_ENDS = re.compile(r"[\r\n]+|</?think>")
"""A template may put line ends around the reasoning."""
SHOWN = 60
"""Characters of a text in a message."""


class LossyTemplateError(ValueError):
    """The chat template leaves out a part of a conversation."""


class TemplateChecks:
    """Checks each rendered conversation. What is not an error is collected in `notices`."""

    def __init__(self, encoder: Encoder, accepts_losses: bool) -> None:
        self._encoder = encoder
        self._accepts_losses = accepts_losses
        self._reads: dict[str, bool] = {}
        self._unread_keys: set[str] = set()
        self._earlier_reasoning = 0
        self._losses = 0
        self._header = ""
        self._rows = self._other_headers = 0

    def check(self, conversation: Conversation, rendered: str) -> None:
        """Raises LossyTemplateError if the rendered text lacks a part of a message, a call or the tools."""
        self._rows += 1
        loss = self._loss(conversation, rendered)
        if loss and not self._accepts_losses:
            raise LossyTemplateError(f"the chat template leaves out {loss}")
        self._losses += bool(loss)
        keys = {key for message in conversation.messages for key in message} - STRUCTURE
        template = self._encoder.template(conversation.tools)
        self._unread_keys |= {key for key in keys - self._unread_keys if key not in template}

    def header_differs(self, header: str) -> None:
        """Notes that a reply does not follow the header that the template opens a reply with in inference."""
        if header.strip():
            self._header = header
            self._other_headers += 1

    def notices(self) -> list[str]:
        """What the user should know of these conversations."""
        found = []
        if self._losses:
            found.append(
                f"the chat template leaves out parts of {self._losses} of {self._rows} conversations"
            )
        if self._earlier_reasoning:
            found.append(
                f"the chat template leaves out the reasoning of replies that are followed by more turns, in "
                f"{self._earlier_reasoning} of {self._rows} conversations"
            )
        if self._other_headers:
            header = json.dumps(self._header, ensure_ascii=False)
            found.append(
                f"in inference the chat template opens a reply with {header}, which {self._other_headers} "
                "replies of the data do not start with"
            )
        if self._unread_keys:
            keys = ", ".join(sorted(self._unread_keys)[:8])
            found.append(f"the chat template does not read these keys of messages: {keys}")
        return found

    def _loss(self, conversation: Conversation, rendered: str) -> str:
        """What is missing, in words; empty if nothing is."""
        if conversation.tools and not self._is_read("tools", conversation, rendered):
            return "the tools"
        messages = conversation.messages
        for key in ("tool_calls", "function_call"):
            if any(message.get(key) for message in messages) and not self._is_read(
                key, conversation, rendered
            ):
                return f"the {key} of the {_role_with(key, messages)} message"
        last_question = max((i for i, each in enumerate(messages) if each["role"] == "user"), default=-1)
        earlier = False
        for index, message in enumerate(messages):
            for text in _texts(message):
                line = _missing_line(text, rendered)
                if not line:
                    continue
                if (
                    index < last_question
                    and message["role"] == "assistant"
                    and _keeps_answer(message, rendered)
                ):
                    earlier = True
                    continue
                which = "last reply" if index == len(messages) - 1 else f"{message['role']} message"
                return f"part of the {which}: {_shown(line)}"
        self._earlier_reasoning += earlier
        return ""

    def _is_read(self, key: str, conversation: Conversation, rendered: str) -> bool:
        """Whether the template reads this key, tried once: it renders another text without it."""
        if key not in self._reads:
            messages, tools = conversation.messages, conversation.tools
            if key == "tools":
                tools = []
            else:
                messages = [{"content": "", **message} for message in messages]
                messages = [{name: each[name] for name in each if name != key} for each in messages]
            try:
                self._reads[key] = self._encoder.render(messages, tools, conversation.options) != rendered
            except Exception:
                self._reads[key] = True
        return self._reads[key]


def _texts(message: dict[str, Any]) -> list[str]:
    reasoning = next((message[key] for key in REASONING_KEYS if isinstance(message.get(key), str)), "")
    return [text for text in (message.get("content", ""), reasoning) if text]


def _missing_line(text: str, rendered: str) -> str:
    """The first line of a text that the rendered conversation lacks; empty if it has all of them."""
    if text.strip() in rendered:
        return ""
    position = 0
    for line in (each.strip() for each in LINE_ENDS.split(text)):
        found = rendered.find(line, position)
        if found >= 0:
            position = found + len(line)
        elif line not in rendered and not _is_rewritten_in(line, rendered):
            return line
    return ""


def _is_rewritten_in(line: str, rendered: str) -> bool:
    """Some templates write content as JSON (Llama 3.1 that of tools) or change the space in it."""
    escaped = (json.dumps(line, ensure_ascii=ascii_)[1:-1] for ascii_ in (False, True))
    return any(text in rendered for text in escaped) or "".join(line.split()) in "".join(rendered.split())


def _keeps_answer(message: dict[str, Any], rendered: str) -> bool:
    answer = str(message.get("content", "")).rpartition(END_OF_REASONING)[2]
    return not _missing_line(answer, rendered)


def _role_with(key: str, messages: list[dict[str, Any]]) -> str:
    return next((str(message["role"]) for message in messages if message.get(key)), "assistant")


def _shown(text: str) -> str:
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return json.dumps(short, ensure_ascii=False)
