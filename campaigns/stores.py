"""Real PostgreSQL and MariaDB as tracking stores: python -m campaigns.stores [postgresql|mariadb] …

Runs, a sweep, a kill -9 with `zpipe record` after it, a server that is restarted during a run, 16 first
users at once and a wrong password, with a password of special characters that must appear nowhere. Prints a
line per check.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from campaigns.hostile_bases import SMALL
from tests.support import preloaded
from tests.support.database import PASSWORD, DatabaseServer
from tests.support.process import finish
from zpipe.runfolder.folder import RunFolder

FIRST_USERS = 16


def first_user(uri: str, folder: str, log: str) -> None:
    """What each of the first users of a store does, in a process of its own."""
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 2)
    from zpipe.record.client import open_client
    from zpipe.record.store import ensure_experiment, prepare_store

    prepare_store(uri)
    client = open_client(uri)
    client.create_run(ensure_experiment(client, uri, "first users", Path(folder)))


class StoreCheck:
    """The checks of one database server; `folder` gets the runs."""

    def __init__(self, server: DatabaseServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
        self._printed = b""

    def all(self) -> Iterator[tuple[str, str]]:
        """Name of each check and what is wrong; empty if nothing is."""
        checks: list[Callable[[], str]] = [
            self.first_users,
            self.run,
            self.sweep,
            self.killed_and_recorded,
            self.restarted_server,
            self.wrong_password,
            self.leaks,
        ]
        for check in checks:
            yield check.__name__.replace("_", " "), check()

    def first_users(self, count: int = FIRST_USERS) -> str:
        users = {}
        for number in range(count):
            log = self.folder / f"first-user-{number}.log"
            arguments = (self.server.uri(), str(self.folder), str(log))
            users[log] = preloaded.context().Process(target=first_user, args=arguments)
            users[log].start()
        for user in users.values():
            user.join()
        said = [log.read_text()[-300:] for log, user in users.items() if user.exitcode != 0]
        runs = self._runs("first users")
        return "; ".join(said) or ("" if len(runs) == count else f"{len(runs)} runs of {count}")

    def run(self) -> str:
        exit_code = self._zpipe("hydra.run.dir=run", f"tracking.uri={self.server.uri()}")
        return self._wrong(exit_code, 0, "run", "FINISHED")

    def sweep(self) -> str:
        arguments = ("-m", "hydra.sweep.dir=sweep", "train.seed=1,2", f"tracking.uri={self.server.uri()}")
        exit_code = self._zpipe(*arguments)
        runs = [run for run in self._runs() if "sweep" in run.data.tags.get("zpipe.run_dir", "sweep")]
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId")]
        return "" if exit_code == 0 and len(children) == 2 else f"exit {exit_code}, {len(children)} points"

    def killed_and_recorded(self) -> str:
        process = self._start("hydra.run.dir=killed", "train.max_steps=100000")
        self._wait_for_steps("killed", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(8)  # the workers notice that their parent is gone
        exit_code = self._command("record", "killed", "--uri", self.server.uri())
        return self._wrong(exit_code, 0, "killed", "KILLED")

    def restarted_server(self) -> str:
        process = self._start("hydra.run.dir=restarted", "train.max_steps=300")
        self._wait_for_steps("restarted", process)
        self.server.stop()
        time.sleep(3)
        self.server.start()
        return self._wrong(process.wait(), 0, "restarted", "FINISHED")

    def wrong_password(self) -> str:
        uri = self.server.uri("not the password")
        exit_code = self._zpipe("hydra.run.dir=wrong", f"tracking.uri={uri}")
        said = self._last.decode(errors="replace")
        if exit_code != 6 or not ("authentication failed" in said or "Access denied" in said):
            return f"run: exit {exit_code}: {said[-300:]}"
        exit_code = self._command("runs", "--uri", uri)
        said = self._last.decode(errors="replace")
        return (
            ""
            if exit_code in (2, 3) and "refuses the connection" in said
            else f"runs: exit {exit_code}: {said}"
        )

    def leaks(self) -> str:
        forms = [form.encode() for form in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "c4n@ry")]
        found = [form.decode() for form in forms if form in self._printed]
        for file in self.folder.rglob("*"):
            if file.is_file() and any(form in file.read_bytes() for form in forms):
                found.append(str(file.relative_to(self.folder)))
        for run in self._runs():
            found += [run.info.run_id for form in forms if form.decode() in str(run.to_dictionary())]
        return ", ".join(found)

    def _zpipe(self, *arguments: str) -> int:
        data = f"data.path={self.folder / 'text.txt'}"
        return self._command(*SMALL, preloaded.INPROCESS, data, *arguments)

    def _command(self, *arguments: str) -> int:
        ended = finish(preloaded.start(self.folder, *arguments), self.folder)
        self._last = (ended.stdout + ended.stderr).encode()
        self._printed += self._last
        return ended.exit_code

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        settings = (*SMALL, f"data.path={self.folder / 'text.txt'}", f"tracking.uri={self.server.uri()}")
        argv = [sys.executable, "-m", "zpipe", *settings, *arguments]
        with (self.folder / "output.log").open("ab") as log:
            return subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log)

    def _wait_for_steps(self, run: str, process: subprocess.Popen[bytes]) -> None:
        """Returns once metrics are written; looks at the titles of the workers meanwhile."""
        events = RunFolder(self.folder / run).numbered(1).events
        while process.poll() is None and not (events.exists() and '"metrics"' in events.read_text()):
            time.sleep(0.3)
        for child in psutil.Process(process.pid).children(recursive=True):
            self._printed += " ".join(child.cmdline()).encode()

    def _runs(self, experiment: str = "zpipe") -> list[Any]:
        from zpipe.record.client import open_client

        client = open_client(self.server.uri())
        found = client.get_experiment_by_name(experiment)
        return [] if found is None else list(client.search_runs([found.experiment_id], max_results=1000))

    def _wrong(self, exit_code: int, expected: int, run: str, status: str) -> str:
        folder = str(self.folder / run)
        found = [each.info.status for each in self._runs() if each.data.tags.get("zpipe.run_dir") == folder]
        if exit_code == expected and found == [status]:
            return ""
        return f"exit {exit_code}, in MLflow {found}: {self._last.decode(errors='replace')[-400:]}"

    _last = b""


@contextmanager
def checked_store(kind: str) -> Iterator[StoreCheck]:
    """The checks of a server that runs until the block ends.

    Its folder is not below pytest's: the server runs as another user, who could not reach it there.
    """
    with tempfile.TemporaryDirectory(prefix="zpipe-db-") as scratch:
        Path(scratch).chmod(0o755)
        folder = Path(scratch, "work")
        folder.mkdir()
        server = DatabaseServer(Path(scratch), kind)
        server.start()
        try:
            yield StoreCheck(server, folder)
        finally:
            server.stop()


def main(kinds: list[str]) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    wrong = 0
    for kind in kinds or ["postgresql", "mariadb"]:
        with checked_store(kind) as store:
            for name, problem in store.all():
                print(f"{kind}: {name}: {problem or 'ok'}", flush=True)
                wrong += bool(problem)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
