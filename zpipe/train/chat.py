"""Renders conversations with the chat template and selects the spans to train on."""

from typing import Any

from zpipe.train.loss_mask import Span
from zpipe.train.tokens import Encoder


def checked_messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as a list of {role, content}; raises ValueError if a role or content is missing."""
    if isinstance(messages, dict):
        # Older data sets store the messages as one list per key.
        messages = [
            dict(zip(messages, values, strict=True)) for values in zip(*messages.values(), strict=True)
        ]
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError("a message has no role")
        if not isinstance(message.get("content"), str | list):
            raise ValueError(f"the {message['role']} message has no content")
    return list(messages)


def conversation_spans(messages: list[dict[str, Any]], encoder: Encoder, completion_only: bool) -> list[Span]:
    """The rendered conversation as spans; with `completion_only`, only assistant messages count in the loss.

    A reply starts after the header that the template opens it with, so the text before a reply equals
    the prompt in inference. Raises ValueError if the template drops an assistant message.
    """
    rendered = encoder.render(messages)
    if not completion_only:
        return [(rendered, True)]
    spans: list[Span] = []
    done = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = encoder.render(messages[:index], open_reply=True)
        start = max(done, _common_prefix(rendered, prompt))
        end = _reply_end(rendered, messages, index, start, encoder)
        spans += [(rendered[done:start], False), (rendered[start:end], True)]
        done = end
    spans.append((rendered[done:], False))
    return [(text, in_loss) for text, in_loss in spans if text]


def _reply_end(
    rendered: str, messages: list[dict[str, Any]], index: int, start: int, encoder: Encoder
) -> int:
    with_reply = encoder.render(messages[: index + 1])
    if rendered.startswith(with_reply) and len(with_reply) >= start:
        return len(with_reply)
    # Some templates (Qwen3's) render a reply differently if more turns follow: search for its content.
    content = messages[index]["content"]
    found = rendered.find(content.strip(), start) if isinstance(content, str) else -1
    if found < 0:
        raise ValueError(
            "the template drops an assistant message; data.completion_only=false trains on all text"
        )
    end = found + len(content.strip())
    eos = encoder.tokenizer.eos_token or ""
    return end + len(eos) if rendered.startswith(eos, end) else end


def _common_prefix(one: str, other: str) -> int:
    """The number of leading characters that both texts share."""
    if one.startswith(other):
        return len(other)
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
