"""The best checkpoint outlives rotation and a killed rank, and its weights are the final model.

Real trainings with saves in the background. The best evaluation is the first: the highest loss is asked for.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded
from tests.support.exports import differing, weights_in
from tests.support.process import SMALL, Run, Started, finish, start, worker_of
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.runfolder.attempt_start import read_start
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

STEPS, EVERY = 60, 10
BEST, LAST = f"checkpoint-{EVERY}", f"checkpoint-{STEPS}"
SETTINGS = (
    *SMALL,
    "stage=2",
    "precision=bf16",
    f"train.max_steps={STEPS}",
    "train.logging_steps=5",
    "train.learning_rate=1e-3",
    "checkpoint=default",
    "checkpoint.async_save=true",
    "checkpoint.save_total_limit=1",
    f"checkpoint.save_steps={EVERY}",
    "train.eval_strategy=steps",
    f"train.eval_steps={EVERY}",
    "data.eval_fraction=0.02",
    "train.load_best_model_at_end=true",
    "train.metric_for_best_model=eval_loss",
    "train.greater_is_better=true",
    "tracking.enabled=false",
)


@dataclass(frozen=True)
class Runs:
    unbroken: Run
    killed: Run
    """Its rank was killed after the second of six saves."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Runs:
    cwd = tmp_path_factory.mktemp("best")
    settings = (*SETTINGS, f"data.path={text_file}")
    unbroken = preloaded.zpipe(cwd, *settings, folder="unbroken")
    assert unbroken.exit_code == 0, unbroken.explain()
    process = start(cwd, *settings, "launcher.max_restarts=1", f"hydra.run.dir={cwd / 'killed'}")
    wait_for_checkpoint(process, cwd / "killed" / f"checkpoint-{2 * EVERY}")
    worker_of(cwd / "killed", 0).kill()
    killed = finish(process, cwd / "killed")
    assert killed.exit_code == 0, killed.explain()
    return Runs(unbroken, killed)


def weights_of(folder: Path) -> dict[str, Any]:
    """Without the copy of tied weights that a final model has."""
    return {name: value for name, value in weights_in(folder).items() if name != "lm_head.weight"}


def wait_for_checkpoint(process: Started, checkpoint: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"no {checkpoint.name}"
        time.sleep(0.01)


def test_killed_run_goes_on_by_itself_after_the_best_checkpoint(runs: Runs) -> None:
    folder = RunFolder(runs.killed.folder)
    assert len(folder.attempts) == 2
    assert EVERY < read_start(folder.numbered(2)).step < STEPS


@pytest.mark.parametrize("which", ["unbroken", "killed"])
def test_rotation_keeps_the_newest_checkpoint_and_the_best(which: str, runs: Runs) -> None:
    run: Run = getattr(runs, which)
    assert [each.name for each in checkpoints_in(run.folder)] == [LAST, BEST]
    state = json.loads((run.folder / LAST / "trainer_state.json").read_text())
    assert (state["best_global_step"], Path(state["best_model_checkpoint"]).name) == (EVERY, BEST)


@pytest.mark.parametrize("which", ["unbroken", "killed"])
def test_final_model_has_the_weights_of_the_best_checkpoint(which: str, runs: Runs) -> None:
    run: Run = getattr(runs, which)
    final = weights_of(run.folder / "model")
    assert differing(final, weights_of(run.folder / BEST)) == []
    assert differing(final, weights_of(run.folder / LAST)) != []
    (model,) = (event for event in run.events if event["event"] == "model")
    assert model["step"] == EVERY


def test_killed_run_has_the_model_of_the_unbroken_one(runs: Runs) -> None:
    models = (weights_of(run.folder / "model") for run in (runs.unbroken, runs.killed))
    assert differing(*models) == []


def test_export_takes_the_best_checkpoint_as_the_final_model(runs: Runs, tmp_path: Path) -> None:
    command = ("export", str(runs.killed.folder), "--output", str(tmp_path / "out"))
    done = preloaded.verb(tmp_path, *command, folder=runs.killed.folder)
    assert done.exit_code == 0, done.explain()
    assert f"{BEST}, step {EVERY}: the final model" in done.stdout
    assert differing(weights_of(tmp_path / "out"), weights_of(runs.killed.folder / BEST)) == []
