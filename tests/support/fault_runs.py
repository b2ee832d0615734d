"""A working folder in which runs fail, and the assertion that all reports of a failure agree."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.process import (
    NOTHING,
    SMALL,
    Run,
    Started,
    finish,
    processes_mentioning,
    start,
    wait_for_step,
)
from tests.support.store import Store

NO_OVERRIDE_HELPS = ""


@dataclass(frozen=True)
class FaultRuns:
    """A working folder with one store for all runs."""

    cwd: Path
    text_file: Path

    def overrides(self, name: str, *more: str) -> tuple[str, ...]:
        steps = "train.max_steps=100000"
        folder = f"hydra.run.dir={self.cwd / name}"
        small = [each for each in SMALL if not each.startswith("train.max_steps")]
        return (*small, steps, f"data.path={self.text_file}", folder, *more)

    def start(
        self,
        name: str,
        *more: str,
        before: Callable[[], None] | None = None,
        env: Mapping[str, str] = NOTHING,
    ) -> subprocess.Popen[str]:
        return start(self.cwd, *self.overrides(name, *more), before=before, env=env)

    def started(self, name: str, *more: str, env: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
        """A run that has reached its first step."""
        process = self.start(name, *more, env=env)
        wait_for_step(process, self.cwd / name)
        return process

    def end_of(self, name: str, process: Started, folder: Path | None = None) -> Run:
        return finish(process, folder or self.cwd / name)

    def recorded(self, folder: Path) -> Any:
        """The MLflow run of a run folder, None where there is none."""
        runs = Store(self.cwd).runs()
        return next((run for run in runs if run.data.tags["zpipe.run_dir"] == str(folder)), None)


def expect(
    runs: FaultRuns,
    run: Run,
    ending: str,
    code: int,
    rank: int | None = None,
    suggests: str = NO_OVERRIDE_HELPS,
) -> str:
    """Asserts that exit code, result, MLflow and post-mortem agree; returns the post-mortem."""
    assert run.exit_code == code, run.explain()
    assert "Traceback" not in run.stderr, run.explain()
    assert (run.result["ending"], run.result["failed_rank"]) == (ending, rank)
    assert processes_mentioning(str(run.folder)) == []

    recorded = runs.recorded(run.folder)
    killed = ending in ("preempted", "interrupted", "terminated")
    assert recorded.info.status == ("KILLED" if killed else "FAILED")
    tags = recorded.data.tags
    assert (tags["zpipe.ending"], tags["zpipe.exit_code"]) == (ending, str(code))
    assert tags.get("zpipe.failed_rank") == (None if rank is None else str(rank))
    assert tags["zpipe.reason"] == run.result["reason"]
    assert "postmortem.md" in Store(runs.cwd).artifacts(recorded.info.run_id)

    text = run.attempt.postmortem.read_text()
    assert text.startswith(f"# Post-mortem: {ending}\n")
    assert run.result["reason"].splitlines()[0] in text.replace("\\|", "|")
    assert "## Memory and disk" in text
    assert str(run.attempt.postmortem) in run.stdout
    if suggests:
        assert f"`{suggests}" in text
        assert suggests in run.stdout
    return text
