"""Short messages from the errors of other libraries."""

MESSAGE_LENGTH = 300


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the advice that often follows it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """The whole message on one line, shortened: validators say what is wrong in their last line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= MESSAGE_LENGTH else text[:MESSAGE_LENGTH] + '…'}"


def hub_message(error: BaseException) -> str:
    """The first line of an error from loading by hub id; states if the hub cannot be reached."""
    message = first_line(error)
    is_offline = any(word in message.lower() for word in ("connect", "offline"))
    return f"offline, and not in this machine's cache: {message}" if is_offline else message
