"""The error of a tracking store that fails. This module imports nothing, to keep `zpipe --help` fast."""


class StoreUnreachable(Exception):
    """The store cannot be reached or refuses to answer; the message is one line without secrets."""
