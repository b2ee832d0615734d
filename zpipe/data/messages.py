"""Checks the messages of a conversation, and brings the ways in which they are written to one."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from zpipe.data.refusals import Unusable

SHAPE = "messages: a list of {role, content}"
ROLES = "system, user, assistant, tool"
ROLES_ELSEWHERE = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
}
LEARNED_KEYS = ("weight", "train", "training")
"""OpenAI's key, and those of Axolotl: whether the reply counts in the loss."""
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
WITHOUT_CONTENT = ("tool_calls", "function_call", *REASONING_KEYS)
"""A message with one of these needs no content."""
MEDIA_KEYS = ("image", "images", "video", "videos", "audio", "audios")


class Conversation(NamedTuple):
    """The messages of an example, each with the keys that a chat template may read."""

    messages: list[dict[str, Any]]
    learned: list[bool]
    """For each message, whether it counts in the loss as far as its row says: prompts of pairs do not."""
    tools: list[dict[str, Any]]
    options: dict[str, Any]
    """Arguments of the chat template."""


def conversation(
    messages: Any, tools: Any = None, options: Any = None, *, prompt: Any = None, replies_only: bool = True
) -> Conversation | None:
    """A conversation; None without messages. The messages of `prompt` precede it.

    With `replies_only`, only messages of the assistant can count in the loss, and none of the prompt.

    Raises Unusable for anything that would be lost or misread.
    """
    before, after = _listed(prompt, "prompt"), _listed(messages, "messages")
    checked = [_message(message) for message in (*before, *after)]
    if not after:
        return None
    learned = [_is_learned(message, replies_only) for message in checked]
    for message in checked:
        for key in LEARNED_KEYS:
            message.pop(key, None)
    if replies_only:
        learned[: len(before)] = [False] * len(before)
    return Conversation(checked, learned, _tools(tools), _options(options))


def _listed(messages: Any, name: str) -> list[Any]:
    messages = _from_json(messages, name)
    if messages is None:
        return []
    if isinstance(messages, dict):
        # Older data sets store the messages as one list per key.
        columns = {key: value for key, value in messages.items() if isinstance(value, list)}
        if len({len(value) for value in columns.values()}) > 1 or len(columns) < len(messages):
            raise Unusable(f"{name} is a mapping, not a list of messages", allowed=SHAPE)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if not isinstance(messages, list):
        raise Unusable(f"{name} is a {type(messages).__name__}, not a list of messages", allowed=SHAPE)
    return messages


def _from_json(value: Any, name: str) -> Any:
    """CSV files, and tables whose rows have different keys, store such values as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise Unusable(f"{name} is text, and not JSON", allowed=SHAPE) from None


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise Unusable(f"a message is a {type(message).__name__}, not {{role, content}}", allowed=SHAPE)
    role = message.get("role")
    if not isinstance(role, str) or not role:
        renamed = " (rename from to role and value to content)" if {"from", "value"} <= set(message) else ""
        raise Unusable(f"a message has no role{renamed}", allowed=SHAPE)
    if role.lower() in ROLES_ELSEWHERE:
        raise Unusable(
            f"a message has the role {role}; rename it to {ROLES_ELSEWHERE[role.lower()]}", allowed=ROLES
        )
    kept = {key: value for key, value in message.items() if value is not None}
    media = next((key for key in MEDIA_KEYS if kept.get(key)), None)
    if media is not None:
        raise Unusable(f"the {role} message has {media}: zpipe trains on text alone", allowed=SHAPE)
    if "content" in kept:
        kept["content"] = _content(kept["content"], role)
    elif not any(kept.get(key) for key in WITHOUT_CONTENT):
        raise Unusable(f"the {role} message has no content", allowed=SHAPE)
    if kept.get("tool_calls"):
        kept["tool_calls"] = [_tool_call(call) for call in _calls(kept["tool_calls"])]
    return kept


def _content(content: Any, role: str) -> str:
    """The text of a message; parts of text are joined, as templates for several media do."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Unusable(
            f"the content of the {role} message is a {type(content).__name__}, not text", allowed=SHAPE
        )
    return "".join(_part(part, role) for part in content)


def _part(part: Any, role: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise Unusable(f"the {role} message has a part of type {kind}: zpipe trains on text alone", allowed=SHAPE)


def _calls(calls: Any) -> list[Any]:
    calls = _from_json(calls, "tool_calls")
    if not isinstance(calls, list):
        raise Unusable(f"tool_calls is a {type(calls).__name__}, not a list", allowed=SHAPE)
    return calls


def _tool_call(call: Any) -> dict[str, Any]:
    """The call with its arguments as a mapping: a template writes it as JSON, and would quote text twice."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unusable("a tool call has no function with a name", allowed="{function: {name, arguments}}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            raise Unusable(
                f"the arguments of a call of {function['name']} are not JSON", allowed="a JSON object"
            ) from None
        function = {**function, "arguments": parsed}
    return {**call, "function": function} if "function" in call else function


def _is_learned(message: dict[str, Any], replies_only: bool) -> bool:
    flags = {key: _flag(message[key], key) for key in LEARNED_KEYS if key in message}
    wanted = next((key for key, value in flags.items() if value), None)
    if replies_only and wanted is not None and message["role"] != "assistant":
        reason = (
            f"the {message['role']} message has {wanted}=1, but only replies of the assistant are learned"
        )
        raise Unusable(reason, allowed="assistant messages with it", fix="data.completion_only=false")
    return all(flags.values())


def _flag(value: Any, key: str) -> bool:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    shown = json.dumps(value) if isinstance(value, str | float | int) else type(value).__name__
    reason = f"a message has {key}={shown}; a reply is learned or not"
    raise Unusable(reason, allowed="0 or false, 1 or true")


def _tools(tools: Any) -> list[dict[str, Any]]:
    tools = _from_json(tools, "tools")
    if tools is None:
        return []
    listed = [_from_json(tool, "tools") for tool in tools] if isinstance(tools, list) else None
    if listed is None or not all(isinstance(tool, dict) for tool in listed):
        raise Unusable(
            "tools is not a list of JSON schemas", allowed="a list of {type: function, function: {name, …}}"
        )
    return listed


def _options(options: Any) -> dict[str, Any]:
    options = _from_json(options, "chat_template_kwargs")
    if options is None:
        return {}
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise Unusable("chat_template_kwargs is not a mapping", allowed="{argument of the template: value}")
    reserved = next((name for name in RESERVED if name in options), None)
    if reserved:
        raise Unusable(
            f"chat_template_kwargs sets {reserved}, which zpipe sets itself", allowed="other arguments"
        )
    return options


RESERVED = (
    "messages",
    "tools",
    "tokenize",
    "add_generation_prompt",
    "chat_template",
    "conversation",
    "return_dict",
)


def texts_of(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every text of the messages, with what it is, for checks of characters."""
    for message in messages:
        for key in ("content", *REASONING_KEYS):
            if isinstance(message.get(key), str):
                yield f"the {message['role']} message", message[key]
