"""Exceptions of `zpipe.plan` and `zpipe.run`: a notebook shows the reasons instead of a traceback."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

from zpipe.api.shown import ShownOutcome
from zpipe.problems import Refusal
from zpipe.terminal.console import print_problems, without_secrets


class RefusedInput(Refusal):
    """A Refusal without the secrets that were typed."""

    def _render_traceback_(self) -> list[str]:
        """IPython calls this."""
        text = io.StringIO()
        print_problems(self.problems, stream=text)
        return text.getvalue().splitlines()


class Interrupted(KeyboardInterrupt):
    """The run was interrupted. It has ended in order, and `outcome` tells how."""

    def __init__(self, outcome: ShownOutcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome

    def _render_traceback_(self) -> list[str]:
        return repr(self.outcome).splitlines()


@contextmanager
def refusals_shown() -> Iterator[None]:
    """Raises each Refusal as a RefusedInput."""
    try:
        yield
    except Refusal as refusal:
        raise RefusedInput(map(without_secrets, refusal.problems)) from None
