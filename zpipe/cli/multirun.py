"""`zpipe -m [OVERRIDES]`: a sweep, led by this process from its first point to its report."""

import secrets
from pathlib import Path

from zpipe.compose.command_line import parse_arguments
from zpipe.compose.overrides import rewrite
from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal
from zpipe.supervise.stops import Stopped, signals_noted
from zpipe.sweep.definition import holds_sweep
from zpipe.sweep.session import PointStopped, Session, SweepLeft, begin
from zpipe.terminal.console import say

_FOLDER = "hydra.sweep.dir="


def start(arguments: list[str]) -> int:
    """Starts a new sweep. Raises Refusal if its folder holds one already, or if every point is refused."""
    given = [text.removeprefix(_FOLDER) for text in arguments if text.startswith(_FOLDER)]
    for folder in given:
        if holds_sweep(Path(folder)):
            reason = "this folder already holds a sweep"
            raise Refusal(
                [Problem("hydra.sweep.dir", folder, reason, "a new folder", f"zpipe sweep resume {folder}")]
            )
    parsed = parse_arguments(arguments)
    if not _some_point_can_run(rewrite(parsed.overrides)):
        return Exit.REFUSED
    return _lead([*arguments, *_seed(arguments)])


def resume(arguments: list[str], folder: Path) -> int:
    """Runs the sweep of this folder again; the ledger provides the results of settled points."""
    others = [text for text in arguments if not text.startswith(_FOLDER)]
    return _lead([*others, f"{_FOLDER}{folder}"])


def _lead(arguments: list[str]) -> int:
    """Runs the points, and closes the sweep however it ends."""
    from zpipe.compose.job import hand_over

    parsed = parse_arguments(arguments)
    parsed.overrides = rewrite(parsed.overrides)
    session = begin(arguments)
    try:
        hand_over(parsed)
    except Stopped as stop:
        return _close(session, stop.exit_code)
    except KeyboardInterrupt:
        return _close(session, Exit.INTERRUPTED)
    except PointStopped as stop:
        return _close(session, stop.exit_code)
    except SweepLeft:
        say(f"collect the results when the points have ended: zpipe sweep resume {session.folder}")
        return Exit.FINISHED
    except SystemExit:  # Hydra has printed an error of its launcher or sweeper
        _close(session, whole=False)
        raise
    return _close(session, whole=True)


def _close(session: Session, stopped: Exit | None = None, whole: bool = False) -> int:
    """A first signal does not keep the sweep from being closed, a second does."""
    with signals_noted(interrupt_at=2):
        return session.close(stopped, whole) if session.leads else stopped or Exit.FINISHED


def _seed(arguments: list[str]) -> list[str]:
    """A seed for optuna's sampler unless one is given, so that a resumed sweep asks for the same points."""
    names = [text.partition("=")[0] for text in arguments]
    is_seeded = "hydra.sweeper.sampler.seed" in names or "hydra/sweeper/sampler=grid" in arguments
    if "hydra/sweeper=optuna" not in arguments or is_seeded:
        return []
    return [f"hydra.sweeper.sampler.seed={secrets.randbelow(1 << 31)}"]


def _some_point_can_run(overrides: list[str]) -> bool:
    """Prints which points of a sweep will be refused; the other points run."""
    from zpipe.cli.plan_points import RefusedPoints
    from zpipe.compose.points import plan_sweep
    from zpipe.compose.sweep import Unlistable

    refused = RefusedPoints()
    try:
        for _ in refused.noted(plan_sweep(overrides)):
            pass
    except Unlistable:
        return True
    refused.show()
    return refused.count < refused.total
