"""RunFolder: owns every path of a run. Other modules ask it for paths, and for the names below."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.foreign_files import is_below, is_regular
from zpipe.runfolder.lock import held

PLAN_NAME = "plan.json"
DS_CONFIG_NAME = "ds_config.json"
CONFIG_NAME = "config.yaml"
EVENTS_NAME = "events.jsonl"
POSTMORTEM_NAME = "postmortem.md"
MODEL_NAME = "model"
LAUNCH_NAME = "launch"
HYDRA_NAME = ".hydra"


_ATTEMPT = re.compile(r"attempt-([1-9]\d{0,5})")


def private_name(run_dir: Path) -> str:
    """A name for the files of a run in a folder that other runs use too."""
    digest = hashlib.sha256(str(run_dir).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"zpipe-{run_dir.name[:80]}-{digest}"


def checkpoint_name(step: int) -> str:
    return f"checkpoint-{step}"


def attempt_name(number: int) -> str:
    return f"attempt-{number}"


def attempt_number(path: Path) -> int | None:
    """The number in the name of an attempt's folder; None for any other name."""
    match = _ATTEMPT.fullmatch(path.name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Attempt:
    """The files of one start of the workers, as one of its nodes writes them."""

    path: Path
    node: int = 0
    first_rank: int = 0
    """Of this node. torchrun numbers the logs of a node from 0."""

    @property
    def number(self) -> int:
        """Counted from 1."""
        return attempt_number(self.path) or 1

    @property
    def start(self) -> Path:
        """How this attempt began: from which checkpoint, with which changes."""
        return self.path / "attempt.json"

    @property
    def events(self) -> Path:
        return self.path / EVENTS_NAME

    @property
    def samples(self) -> Path:
        """Memory and disk usage over time."""
        return self.path / "samples.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def postmortem(self) -> Path:
        return self.path / POSTMORTEM_NAME

    @property
    def disk_reserve(self) -> Path:
        return self.path / ".spare"

    @property
    def logs(self) -> Path:
        return self.path / "logs" / f"node-{self.node}" if self.node else self.path / "logs"

    def note(self, node: int) -> Path:
        """What the zpipe of a node tells those of the others."""
        return self.path / "nodes" / f"{node}.json"

    @property
    def launcher_log(self) -> Path:
        return self.logs / "launcher.log"

    def rank_error(self, rank: int) -> Path:
        """The exception that ended a rank."""
        return self.path / f"rank{rank}.error.json"

    def rank_errors(self, ranks: range | None = None) -> list[Path]:
        """Of these ranks, without a look at the files of the others, or of all."""
        found = self.path.glob("rank*.error.json") if ranks is None else map(self.rank_error, ranks)
        return sorted(filter(is_regular, found))

    def rank_logs(self, stream: str, rank: int | None = None) -> list[Path]:
        """Logs of one rank, or of all; `stream` is stderr or stdout."""
        here = "*" if rank is None else rank - self.first_rank
        found = [*self.logs.glob(f"*/attempt_*/{here}/{stream}.log")]
        if stream == "stderr":  # DeepSpeed's launcher writes both to one file, and counts all ranks
            found += self.logs.glob(f"*_rank{'*' if rank is None else rank}.log")
        return sorted(log for log in found if is_regular(log) and is_below(log, self.path))

    def leftovers(self) -> list[Path]:
        """Files of a launch that nothing needs once its processes have ended."""
        files = (self.rendezvous, self.stop_request, self.exports)
        launch = [file for file in files if is_regular(file)]
        return [*launch, *self.path.glob(".process-group-*"), *self.path.glob(".data-*.json")]

    def data_marker(self, launch_id: str, node: int = 0) -> Path:
        """Written by the first rank of a node when the packed data is ready for the others."""
        return self.path / (f".data-{launch_id}-{node}.json" if node else f".data-{launch_id}.json")

    @property
    def stop_request(self) -> Path:
        """Asks the workers to save a checkpoint and to stop."""
        return self.path / ".stop"

    @property
    def exports(self) -> Path:
        """Variables that DeepSpeed's runner exports to the hosts; none of them is secret."""
        return self.path / ".deepspeed_env"

    @property
    def rendezvous(self) -> Path:
        """Where the agents of the launcher meet; removed after the launch."""
        return self.path / ".rendezvous"

    def process_group(self, launch_id: str) -> Path:
        """Where the ranks meet; torch removes it when the last rank leaves."""
        return self.path / f".process-group-{launch_id}"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: what belongs to the run here, what belongs to an attempt in `attempt-N`."""

    path: Path

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt that was begun, in order; links are not followed."""
        found = [path for path in self.path.glob("attempt-*") if attempt_number(path) and _is_folder(path)]
        return sorted(map(Attempt, found), key=lambda attempt: attempt.number)

    @property
    def attempt(self) -> Attempt:
        """The last attempt, or the first one if none was begun yet; never one behind a link."""
        attempts = self.attempts
        return attempts[-1] if attempts else next(filter(_is_no_link, map(self.numbered, count(1))))

    def numbered(self, number: int) -> Attempt:
        return Attempt(self.path / attempt_name(number))

    @property
    def plan(self) -> Path:
        return self.path / PLAN_NAME

    @property
    def ds_config(self) -> Path:
        return self.path / DS_CONFIG_NAME

    @property
    def config(self) -> Path:
        """The experiment as YAML."""
        return self.path / CONFIG_NAME

    @property
    def hydra(self) -> Path:
        """Hydra's record of the composition."""
        return self.path / HYDRA_NAME

    @property
    def model(self) -> Path:
        """The final model."""
        return self.path / MODEL_NAME

    @property
    def launch(self) -> Path:
        """Files that the launcher reads."""
        return self.path / LAUNCH_NAME

    @property
    def record_state(self) -> Path:
        """How much of the run MLflow has."""
        return self.path / "record.json"

    @property
    def holds_run(self) -> bool:
        """Whether there is a plan in the folder."""
        return self.plan.is_file() or self.plan.is_symlink()

    def claim(self) -> None:
        """Raises Refusal if the folder already holds a run or a plan, or files that a run would overwrite."""
        found = self.occupied_by()
        if not found:
            return
        if PLAN_NAME in found:
            reason = "this folder already holds a run, or a plan that was edited or is of another version"
        else:
            reason = f"a run would overwrite files in this folder: {', '.join(found)}"
        raise Refusal(
            [Problem("hydra.run.dir", str(self.path), reason, "a new folder", "leave hydra.run.dir out")]
        )

    def occupied_by(self) -> list[str]:
        """Names in the folder that a run would write, of an earlier run or of the user."""
        return sorted(path.name for path in self._written() if path.exists() or path.is_symlink())

    def begin(self, number: int) -> Attempt:
        """Creates the folder of an attempt. Raises FileExistsError if another process has begun it."""
        attempt = self.numbered(number)
        self.path.mkdir(parents=True, exist_ok=True)
        attempt.path.mkdir()
        return attempt

    def _written(self) -> list[Path]:
        """What a run writes, without Hydra's record, which is there before a point of a sweep starts."""
        texts = (self.plan, self.ds_config, self.config, self.record_state)
        return [
            *texts,
            self.model,
            self.launch,
            *self.path.glob("attempt-*"),
            *self.path.glob("checkpoint-*"),
        ]

    def supervision(self, patience: float = 0.0) -> AbstractContextManager[bool]:
        """Claims the supervision of the run; yields False if another process has it.

        The kernel releases the lock when its process dies. With patience, a process that only looks whether
        there is a supervisor is waited for.
        """
        return held(self._supervision_lock, patience)

    @property
    def is_supervised(self) -> bool:
        """Whether a process supervises the run now. Writes nothing."""
        if not is_regular(self._supervision_lock):
            return False
        with self.supervision() as is_ours:
            return not is_ours

    @property
    def _supervision_lock(self) -> Path:
        return self.path / ".supervised.lock"

    def recording(self) -> AbstractContextManager[bool]:
        """Claims the recording of the run; yields False if another process has it."""
        return held(self.path / ".record.lock")

    def texts(self) -> Iterator[Path]:
        """The text files that describe the run and its end, without logs and events."""
        yield from (self.plan, self.ds_config, self.config, self.record_state)
        for attempt in self.attempts:
            yield from (attempt.start, attempt.result, attempt.postmortem)
        yield from (self.hydra / "overrides.yaml", self.hydra / "hydra.yaml", self.path / "zpipe.log")


def _is_no_link(attempt: Attempt) -> bool:
    return not attempt.path.is_symlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
