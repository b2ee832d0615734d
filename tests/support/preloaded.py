"""Starts zpipe in children of a process that has imported everything: a start takes 2 seconds, not 15.

Each child is a process with its own folder, environment and output, as `python -m zpipe` is; only the
imports are shared. A run needs launcher=inprocess: the processes of other launchers import everything again.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.process import NOTHING, REPOSITORY, Run, environment, finish, kill_tree

INPROCESS = "launcher=inprocess"


class Child:
    """A running zpipe with the methods of subprocess.Popen that tests use."""

    def __init__(self, cwd: Path, arguments: tuple[str, ...], env: Mapping[str, str]) -> None:
        self._output = tempfile.TemporaryDirectory(prefix="zpipe-output-", ignore_cleanup_errors=True)
        values = (str(cwd), arguments, environment(env), self._output.name)
        self._process: Any = context().Process(target=_work, args=values)
        self._process.start()
        self.pid = int(self._process.pid)

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        code = self._process.exitcode
        return None if code is None else int(code)

    def communicate(self) -> tuple[str, str]:
        """What it printed to stdout and stderr until its end."""
        self._process.join()
        return self.printed("stdout"), self.printed("stderr")

    def printed(self, stream: str) -> str:
        file = Path(self._output.name, stream)
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the process and everything that it started, without warning."""
        if self.poll() is None:
            kill_tree(self.pid)
        self._process.join()


def launcher(ranks: int) -> str:
    """The override for this many ranks, of which one alone trains in the preloaded process."""
    return INPROCESS if ranks == 1 else f"launcher.nproc_per_node={ranks}"


def start(cwd: Path, *arguments: str, env: Mapping[str, str] = NOTHING) -> Child:
    """Starts `zpipe ARGUMENTS` in this folder."""
    return Child(cwd, arguments, env)


def zpipe(cwd: Path, *overrides: str, folder: str = "run", env: Mapping[str, str] = NOTHING) -> Run:
    """Runs zpipe in `cwd` to its end, with the run folder at `cwd/folder`."""
    process = start(cwd, *overrides, INPROCESS, f"hydra.run.dir={cwd / folder}", env=env)
    return finish(process, cwd / folder)


def sweep(cwd: Path, *overrides: str, env: Mapping[str, str] = NOTHING) -> Run:
    """Runs a multirun whose points are in `cwd/sweep/0`, `cwd/sweep/1`, …"""
    process = start(cwd, "-m", *overrides, INPROCESS, f"hydra.sweep.dir={cwd / 'sweep'}", env=env)
    return finish(process, cwd / "sweep")


def verb(cwd: Path, *arguments: str, folder: Path, env: Mapping[str, str] = NOTHING) -> Run:
    """Runs one of zpipe's commands on a run folder or a sweep folder."""
    return finish(start(cwd, *arguments, env=env), folder)


def context() -> Any:
    """The multiprocessing context whose processes are preloaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preload"])
    return context


def _work(cwd: str, arguments: tuple[str, ...], env: dict[str, str], output: str) -> None:
    """What the child does."""
    os.setsid()
    os.chdir(cwd)
    for stream in (sys.stdout, sys.stderr):
        name = "stdout" if stream is sys.stdout else "stderr"
        descriptor = os.open(Path(output, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, stream.fileno())
    os.environ.clear()
    os.environ.update(env)
    _customize(env["PYTHONPATH"])
    sys.argv = ["zpipe", *arguments]
    from zpipe.cli.main import main

    sys.exit(main(list(arguments)))


def _customize(python_path: str) -> None:
    """Runs the sitecustomize.py of a test's plants, as Python does when it starts."""
    for folder in python_path.split(os.pathsep):
        file = Path(folder, "sitecustomize.py")
        if folder.startswith(str(REPOSITORY)) and file.is_file():
            runpy.run_path(str(file))
