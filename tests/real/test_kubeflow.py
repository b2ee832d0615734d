"""The command of a rendered TrainJob, started as its pods would start it: two of them on this machine."""

import shutil
import socket
from pathlib import Path

import pytest

from tests.support.kubernetes import start_pod
from tests.support.process import SMALL, finish, losses, verb
from zpipe.hydra_text import quoted
from zpipe.resources import CONF
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

RECIPE = """\
# Settings that are nowhere else.
defaults:
  - override /checkpoint: none
train: {max_steps: 4, warmup_steps: 0, logging_steps: 1}
tracking: {run_name: "$(id) ${data.max_length} 'é"}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_pods_train_what_one_machine_trains_without_the_files_of_the_user(
    losses_of_two_ranks: list[float], text_file: Path, tmp_path: Path
) -> None:
    user, volume = tmp_path / "user", tmp_path / "volume"
    (user / "own" / "scheduler").mkdir(parents=True)
    volume.mkdir()
    (user / "mine.yaml").write_text(RECIPE)
    shutil.copy(CONF / "scheduler" / "linear.yaml", user / "own" / "scheduler" / "mine.yaml")
    folder = volume / "run $(id) 'é"
    settings = [each for each in SMALL if not each.startswith(("train.", "checkpoint"))]
    planned = verb(
        user,
        "plan",
        f"--config-dir={user / 'own'}",
        f"recipe={user / 'mine.yaml'}",
        "scheduler=mine",
        *settings,
        "launcher=kubeflow",
        "launcher.nodes=2",
        "launcher.nproc_per_node=1",
        "launcher.kubeflow.image=registry.example/zpipe:1",
        f"launcher.kubeflow.volumes=['runs:{volume}']",
        f"data.path={text_file}",
        "tracking.enabled=false",
        f"hydra.run.dir={quoted(str(folder))}",
        folder=folder,
    )
    assert planned.exit_code == 0, planned.explain()
    text = (folder / "launch" / "trainjob.yaml").read_text()
    shutil.rmtree(user)

    port = free_port()
    second = start_pod(text, 1, port, tmp_path / "pod-1")
    first = finish(start_pod(text, 0, port, tmp_path / "pod-0"), folder)
    other = finish(second, folder)
    assert (first.exit_code, other.exit_code) == (0, 0), first.explain() + other.explain()
    assert losses(folder) == losses_of_two_ranks
    assert "node 1: finished" in other.stderr
    assert (
        len(list((RunFolder(folder).attempt.path / "logs" / "node-1").glob("*/attempt_0/0/stderr.log"))) == 1
    )
