"""Hostile inputs against zpipe: python -m campaigns.hostile [--every N] [--only TEXT] [--jobs N]

Each case runs one command in a folder of its own. A finding is an execution of foreign code, a change
outside the folder, a secret in the output or in a written file, credentials sent to a foreign server, a
traceback, an undocumented exit code, or a command that does not end.
"""

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from campaigns.hostile_bases import prepare_bases
from campaigns.hostile_cases import Case, all_cases, filled_argv, put
from zpipe.exits import Exit

CASE_SECONDS = 90.0
MEMORY_BYTES = 12 * 2**30
SECRET = "c4naryS3cretValue-5577"  # noqa: S105 - a secret that must appear nowhere
DOCUMENTED = {int(code) for code in Exit if code is not Exit.INTERNAL}


@dataclass(frozen=True)
class Finding:
    case: Case
    exit_code: int
    findings: tuple[str, ...]
    output: str


class Arena:
    """A scratch folder with the prepared bases, the outside and the server that must receive nothing."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.outside = scratch / "outside"
        self.outside.mkdir()
        (self.outside / "thesis.txt").write_text(f"years of work, and {SECRET}")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "weights.bin").write_bytes(b"\0" * 64)
        self.bases = prepare_bases(scratch)
        self.untouched = _digest(self.outside)
        self.requests: list[str] = []
        self.sink = _Sink(self.requests)

    def run(self, number: int, case: Case) -> Finding:
        work = self.scratch / f"case{number}"
        if case.base:
            shutil.copytree(self.bases[case.base], work, symlinks=True)
        else:
            work.mkdir()
        words = {"work": str(work), "outside": str(self.outside), "sink": self.sink.address}
        for path, shape in case.files:
            put(work / path, shape, words)
        return self._watched(case, work, words)

    def _watched(self, case: Case, work: Path, words: dict[str, str]) -> Finding:
        home = work / "home"
        home.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "HF_HUB_OFFLINE": "1",
            "HF_TOKEN": SECRET,
            "MLFLOW_TRACKING_USERNAME": "me",
            "MLFLOW_TRACKING_PASSWORD": SECRET,
        }
        argv = [sys.executable, "-m", "zpipe", *filled_argv(case, words)]
        if any("\0" in each for each in argv):
            return Finding(case, 2, (), "no process can have this argument")
        try:
            ended = subprocess.run(
                argv,
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=CASE_SECONDS,
                preexec_fn=_limit_memory,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            text = (late.stdout or b"").decode(errors="replace")
            return Finding(case, -1, (f"did not end within {CASE_SECONDS:.0f} s",), text)
        text = ended.stdout.decode(errors="replace")
        found = tuple(self._findings(work, ended.returncode, text))
        if not found:
            shutil.rmtree(work, ignore_errors=True)
        return Finding(case, ended.returncode, found, text)

    def _findings(self, work: Path, exit_code: int, text: str) -> Iterator[str]:
        if exit_code not in DOCUMENTED:
            yield f"exit code {exit_code} is not documented"
        if "Traceback (most recent" in text:
            yield "a traceback"
        if "\x1b]" in text or "\x1b[2J" in text:
            yield "a terminal escape of the input"
        if SECRET in text:
            yield "a secret in the output"
        for file in work.rglob("*"):
            if file.name.startswith("CANARY"):
                yield "foreign code was executed"
            if file.is_file() and not file.is_symlink() and SECRET.encode() in file.read_bytes():
                yield f"a secret in {file.relative_to(work)}"
        if (self.outside / "CANARY").exists():
            (self.outside / "CANARY").unlink()
            yield "foreign code was executed"
        if (now := _digest(self.outside)) != self.untouched:
            self.untouched = now
            yield "a change outside"
        if any("authorization" in request.lower() for request in self.requests):
            self.requests.clear()
            yield "credentials were sent to a foreign server"


class _Sink:
    """An HTTP server on loopback that notes the headers of every request and answers 404."""

    def __init__(self, requests: list[str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(f"{self.path} {self.headers}")
                self.send_error(404)

            do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Prints nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}"


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        status = file.lstat()
        digest.update(f"{file} {status.st_mode} {status.st_mtime_ns}".encode())
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def run_cases(cases: Sequence[Case], scratch: Path, jobs: int = 2) -> Iterator[Finding]:
    """One Finding per case, in order; its `findings` are empty if nothing is wrong."""
    arena = Arena(scratch)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(arena.run, range(len(cases)), cases)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="run every Nth case")
    parser.add_argument("--only", default="", help="run the cases whose name has this text")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    cases = [case for case in all_cases() if given.only in case.name][:: given.every]
    print(f"{len(cases)} cases", flush=True)
    wrong = 0
    scratch = Path(tempfile.mkdtemp(prefix="zpipe-hostile-"))
    for finding in run_cases(cases, scratch, given.jobs):
        if finding.findings:
            wrong += 1
            print(f"{finding.case.name}: {'; '.join(finding.findings)} (exit {finding.exit_code})")
            print(f"    {' '.join(finding.case.argv)[:200]!r}\n    {finding.output[-500:]!r}", flush=True)
    print(f"{len(cases)} cases, {wrong} with findings, in {scratch}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
