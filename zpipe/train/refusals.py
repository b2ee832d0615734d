"""Short messages from the errors of other libraries."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the advice that often follows it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def hub_message(error: BaseException) -> str:
    """The first line of an error from loading by hub id; states if the hub cannot be reached."""
    message = first_line(error)
    is_offline = any(word in message.lower() for word in ("connect", "offline"))
    return f"offline, and not in this machine's cache: {message}" if is_offline else message
