"""What is exported of a run: its final model, one of its checkpoints, or the best of them."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from zpipe.checkpoints.best import best_checkpoint, values_of
from zpipe.checkpoints.folders import files_below
from zpipe.checkpoints.home import home_in
from zpipe.checkpoints.manifest import Manifest
from zpipe.checkpoints.state import CheckpointState
from zpipe.checkpoints.survey import UNCHANGED, survey
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.attempt_start import first_start
from zpipe.runfolder.events import ModelSaved
from zpipe.runfolder.folder import RunFolder, checkpoint_name
from zpipe.runfolder.foreign_files import is_regular
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents

OPTION = "--checkpoint"
_BEST = "best:"
_ALLOWED = "a step such as 500, or best:METRIC such as best:eval_loss"

Verify = Callable[[CheckpointState, str | None], CheckpointState]
"""Compares the content of a checkpoint with its manifest; the text is the identity of the run."""
Skipped = Callable[[CheckpointState], None]
"""Told of a checkpoint that would have been chosen, and is not intact."""


@dataclass(frozen=True)
class Exportable:
    """A folder with trained weights, which was verified as far as it can be."""

    step: int
    folder: Path
    manifest: Manifest | None
    """None for the folder of the final model, which has none."""
    reason: str
    """Why it was chosen, for people."""


class Choice:
    """The choice among the checkpoints of one run. Raises Refusal if there is nothing to choose."""

    def __init__(self, folder: RunFolder, verify: Verify, on_skipped: Skipped) -> None:
        start = first_start(folder)
        self._run_id = start.run_id if start else None
        self._folder, self._verify, self._on_skipped = folder, verify, on_skipped
        found = survey(home_in(folder), self._run_id)
        self._found = [each for each in found if not _is_part(each)]
        self._parts = [each for each in found if _is_part(each)]

    def choose(self, wanted: str | None) -> Exportable:
        """A checkpoint by its step, or the best one by a metric; None chooses the last state of the run."""
        if wanted is None:
            return self._last()
        if wanted.startswith(_BEST) and wanted != _BEST:
            return self._best(wanted.removeprefix(_BEST))
        if wanted.isdecimal() and len(wanted) < 19:
            return self._numbered(int(wanted))
        raise Refusal([Problem(OPTION, wanted, "neither a step nor a metric", _ALLOWED)])

    def _last(self) -> Exportable:
        """The final model, in its checkpoint if there is one, which has digests; or the newest checkpoint."""
        model = self._final_model()
        if model is not None:
            same = self._first_intact(each for each in self._found if each.step == model.step)
            if same is not None:
                return _exportable(same, "the final model")
            return Exportable(model.step, self._folder.model, None, "the final model, which has no manifest")
        newest = self._first_intact(self._found)
        if newest is None:
            raise Refusal([self._nothing()])
        return _exportable(newest, "the newest intact checkpoint; there is no final model")

    def _best(self, metric: str) -> Exportable:
        values = values_of(self._folder, metric, option=f"{OPTION} {_BEST}")
        left = list(self._found)
        while (best := best_checkpoint(metric, values, left)) is not None:
            value, state = best
            verified = self._compared(state)
            if verified.state in UNCHANGED:
                return _exportable(verified, f"the best {metric}: {value.value:.6g}")
            self._on_skipped(verified)
            left.remove(state)
        reason = "no intact checkpoint is of a step at which this metric was logged"
        raise Refusal([Problem(OPTION, _BEST + metric, reason, self._intact_steps())])

    def _numbered(self, step: int) -> Exportable:
        named = [each for each in self._found if each.path.name == checkpoint_name(step)]
        if any(each.step == step for each in self._parts):
            reason = "each node has its own part of this checkpoint, and one part is not a model"
            raise Refusal([Problem(OPTION, step, reason, "the final model: without this option")])
        if not named:
            raise Refusal([Problem(OPTION, step, "the run has no such checkpoint", self._intact_steps())])
        state = self._compared(named[0])
        if state.state not in UNCHANGED:
            reason = f"{state.path.name} is {state.state}: {'; '.join(state.damage[:3])}"
            raise Refusal([Problem(OPTION, step, reason, self._intact_steps(but=step))])
        return _exportable(state, "asked for")

    def _first_intact(self, states: Iterable[CheckpointState]) -> CheckpointState | None:
        for state in states:
            verified = self._compared(state)
            if verified.state in UNCHANGED:
                return verified
            self._on_skipped(verified)
        return None

    def _compared(self, state: CheckpointState) -> CheckpointState:
        """The state after its content was compared too; what is damaged already is not read."""
        return self._verify(state, self._run_id) if state.state in UNCHANGED else state

    def _final_model(self) -> ModelSaved | None:
        """The report of the final model, if the run has ended with it and all its bytes are there."""
        progress = RunProgress.of(RunEvents(self._folder).read_new())
        model, folder = progress.model, self._folder.model
        if model is None or not progress.done or folder.is_symlink() or not folder.is_dir():
            return None
        files = list(files_below(folder))
        is_whole = all(map(is_regular, files)) and sum(file.stat().st_size for file in files) == model.bytes
        return model if is_whole else None

    def _nothing(self) -> Problem:
        reason = "the run has neither a complete final model nor an intact checkpoint"
        return Problem(
            "RUN",
            str(self._folder.path),
            reason,
            fix=f"zpipe checkpoints {shlex.quote(str(self._folder.path))}",
        )

    def _intact_steps(self, but: int | None = None) -> str:
        steps = [each.step for each in self._found if each.state in UNCHANGED and each.step != but]
        return ", ".join(map(str, steps)) or "none: the run has no other intact checkpoint"


def _is_part(state: CheckpointState) -> bool:
    return state.manifest is not None and state.manifest.nodes > 1


def _exportable(state: CheckpointState, reason: str) -> Exportable:
    return Exportable(state.step, state.path, state.manifest, reason)
