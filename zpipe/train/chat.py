"""Renders conversations with the chat template and selects the spans to train on."""

from typing import Any

from zpipe.data.messages import Conversation
from zpipe.train.chat_checks import TemplateChecks
from zpipe.train.loss_mask import Span
from zpipe.train.tokens import Encoder


class ChatRenderer:
    """Turns conversations into spans; with `replies_only`, only learned assistant messages count in the loss.

    A reply starts after the header that the template opens it with, so the text before a reply equals the
    prompt in inference.
    """

    def __init__(self, encoder: Encoder, replies_only: bool, accepts_losses: bool) -> None:
        self.checks = TemplateChecks(encoder, accepts_losses)
        self._encoder = encoder
        self._replies_only = replies_only

    def spans(self, conversation: Conversation) -> list[Span]:
        """The rendered conversation in parts. Raises ValueError if the template fails or loses text."""
        rendered = self._render(conversation.messages, conversation)
        self.checks.check(conversation, rendered)
        spans: list[Span] = []
        done = 0
        for index, message in enumerate(conversation.messages):
            if not self._differs(message, conversation.learned[index]):
                continue
            start = max(done, self._reply_start(rendered, conversation, index, done))
            end = self._reply_end(rendered, conversation, index, start)
            spans += [
                (rendered[done:start], not self._replies_only),
                (rendered[start:end], self._replies_only),
            ]
            done = end
        spans.append((rendered[done:], not self._replies_only))
        return [(text, in_loss) for text, in_loss in spans if text]

    def _differs(self, message: dict[str, Any], learned: bool) -> bool:
        """Whether a message is an exception: a reply among text that is not learned, or the reverse."""
        if not self._replies_only:
            return not learned
        # An empty reply would only train the model to stop.
        says_something = message.get("content") or set(message) - {"role", "content"}
        return learned and message["role"] == "assistant" and bool(says_something)

    def _render(self, messages: list[dict[str, Any]], of: Conversation, open_reply: bool = False) -> str:
        return self._encoder.render(messages, of.tools, of.options, open_reply)

    def _reply_start(self, rendered: str, conversation: Conversation, index: int, done: int) -> int:
        messages = conversation.messages
        if messages[index]["role"] != "assistant":
            return _position_of(messages[index], rendered, done)
        try:
            prompt = self._render(messages[:index], conversation, open_reply=True)
        except Exception:
            # No prompt exists before a first message, and some templates render no unfinished turn.
            return _position_of(messages[index], rendered, done)
        start = _common_prefix(rendered, prompt)
        if start < len(prompt):
            before = self._render(messages[:index], conversation)
            self.checks.header_differs(prompt[max(start, len(before)) :] if start >= len(before) else "")
        return start

    def _reply_end(self, rendered: str, conversation: Conversation, index: int, start: int) -> int:
        messages = conversation.messages
        with_reply = self._render(messages[: index + 1], conversation)
        if rendered.startswith(with_reply) and len(with_reply) >= start:
            return len(with_reply)
        # Some templates (Qwen3's) render a reply differently if more turns follow: search for its content.
        content = str(messages[index].get("content", "")).strip()
        found = rendered.find(content, start)
        if found < 0:
            content = content.rpartition("</think>")[2].strip()
            found = rendered.find(content, start) if content else -1
        if found < 0:
            raise ValueError("the template drops an assistant message")
        end = found + len(content)
        eos = self._encoder.tokenizer.eos_token or ""
        return end + len(eos) if rendered.startswith(eos, end) else end


def _position_of(message: dict[str, Any], rendered: str, done: int) -> int:
    """Where the content of a message starts in the rendered text."""
    lines = [line.strip() for line in str(message.get("content", "")).splitlines() if line.strip()]
    found = rendered.find(lines[0], done) if lines else -1
    if found < 0:
        raise ValueError(f"the template drops the {message['role']} message that opens the conversation")
    return found


def _common_prefix(one: str, other: str) -> int:
    """The number of leading characters that both texts share."""
    if one.startswith(other):
        return len(other)
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
