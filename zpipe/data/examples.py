"""Converts rows to examples: a text, a prompt with its completion, or a conversation."""

from typing import Any, NamedTuple

from zpipe.data.layouts import LAYOUTS
from zpipe.data.messages import Conversation, conversation, texts_of
from zpipe.data.refusals import Unusable, data_path_refusal
from zpipe.data.row import Row
from zpipe.schema.data import Data


class Text(NamedTuple):
    text: str


class Pair(NamedTuple):
    prompt: str
    completion: str


Example = Text | Pair | Conversation


def example_of(row: Row, layout: str, data: Data) -> Example | None:
    """The example of a row; None if it has nothing to learn. Raises Refusal for an unusable row."""
    try:
        missing = [name for name in LAYOUTS[layout] if name not in row.columns]
        if missing:
            named = ", ".join(map(str, row.columns)) or "no key"
            reason = f"it has no {' and no '.join(missing)}, but {named}"
            raise Unusable(reason, allowed=f"{' and '.join(LAYOUTS[layout])} in every row")
        return _READ[layout](row.values, data)
    except Unusable as bad:
        raise data_path_refusal(data.path, f"{row.place}: {bad}", allowed=bad.allowed, fix=bad.fix) from bad


def _text_example(values: dict[str, Any], data: Data) -> Text | None:
    text = _text(values.get("text"), "text")
    return Text(text) if text else None


def _pair(values: dict[str, Any], data: Data) -> Pair | Conversation | None:
    prompt, completion = values.get("prompt"), values.get("completion")
    if isinstance(prompt, list) or isinstance(completion, list):
        return _pair_of_messages(values, data)
    pair = Pair(_text(prompt, "prompt"), _text(completion, "completion"))
    # An empty completion would only train the model to stop.
    return pair if pair.completion else None


def _pair_of_messages(values: dict[str, Any], data: Data) -> Conversation | None:
    prompt, completion = values.get("prompt"), values.get("completion")
    for name, value in (("prompt", prompt), ("completion", completion)):
        if value is not None and not isinstance(value, list):
            reason = f"prompt and completion are of different kinds: {name} is a {type(value).__name__}"
            raise Unusable(reason, allowed="two texts, or two lists of messages")
    return _conversation_of(completion, prompt, values, data)


def _conversation(values: dict[str, Any], data: Data) -> Conversation | None:
    return _conversation_of(values.get("messages"), None, values, data)


def _conversation_of(messages: Any, prompt: Any, values: dict[str, Any], data: Data) -> Conversation | None:
    tools, options = values.get("tools"), values.get("chat_template_kwargs")
    found = conversation(messages, tools, options, prompt=prompt, replies_only=data.completion_only)
    for what, text in texts_of(found.messages) if found else ():
        _require_characters(text, what)
    return found


def _text(value: Any, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        reason = f"column {column} contains a {type(value).__name__}"
        raise Unusable(reason, allowed=f"text in column {column}")
    _require_characters(value, f"column {column}")
    return value


def _require_characters(text: str, what: str) -> None:
    """Refuses half of a surrogate pair: no encoding of it exists, so no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        reason = f"{what} has {half} at character {error.start + 1}, half of a surrogate pair"
        raise Unusable(reason, allowed="whole Unicode characters") from None


_READ = {"text": _text_example, "prompt_completion": _pair, "messages": _conversation}
