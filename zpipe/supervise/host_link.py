"""The connection to the agent of one host: an ssh whose streams carry messages."""

import os
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO

from pydantic_core import PydanticSerializationError

from zpipe.problems import Problem, Refusal
from zpipe.supervise.host_messages import Hello, Order, Question, Report, line_of, message_in

_MOST_LINE = 1 << 20
_LAST_WORDS = 2000


class HostLink:
    """Created with the command that starts the agent. Nothing here blocks or raises, except `answer`."""

    def __init__(self, node: int, name: str, command: list[str], hello: Hello) -> None:
        self.node, self.name = node, name
        self.host = name
        """What the host calls itself, once it has answered."""
        self.report = Report()
        self.seen = time.monotonic()
        self.has_ended = False
        self._answers: dict[Question, Report] = {}
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the connection
        greeting = _greeting(hello)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for zpipe, which then ends the ranks in order
        )
        for name_, work in (("hello", lambda: self._write(greeting)), ("read", self._read)):
            threading.Thread(target=work, name=f"zpipe-{name_}-{node}", daemon=True).start()

    @property
    def title(self) -> str:
        return f"node {self.node} ({self.host})"

    @property
    def silence(self) -> float:
        """Seconds since the last message."""
        return time.monotonic() - self.seen

    def send(self, order: Order) -> None:
        self._write(line_of(order))

    def answer(self, question: Question, until: float) -> Report | None:
        """None if the connection ends, or at that time of the monotonic clock."""
        with self._changed:
            self._changed.wait_for(
                lambda: question in self._answers or self.has_ended, max(0.0, until - time.monotonic())
            )
            return self._answers.get(question)

    def last_words(self) -> str:
        """The last line that ssh or the agent wrote to standard error."""
        file = self._errors.fileno()  # its position is that of ssh, which writes
        text = os.pread(file, _LAST_WORDS, max(0, os.fstat(file).st_size - _LAST_WORDS))
        lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def hang_up(self) -> None:
        """Ends the input of the agent, which then ends what is left of the launch, and itself."""
        if not self._writing.acquire(timeout=1.0):  # a message is stuck in a connection that is dead
            self._process.kill()
            return
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._writing.release()

    def wait(self, until: float) -> None:
        """For the end of the connection, until this time of the monotonic clock at most."""
        try:
            self._process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _write(self, line: bytes) -> None:
        stdin = self._process.stdin
        with self._writing, suppress(OSError, ValueError):  # the end is noticed by the reader
            if stdin is not None:
                stdin.write(line)
                stdin.flush()

    def _read(self) -> None:
        stdout: IO[bytes] | None = self._process.stdout
        while stdout is not None and (line := stdout.readline(_MOST_LINE)):
            report = message_in(Report, line)
            if report is not None:
                self._take(report)
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    def _take(self, report: Report) -> None:
        with self._changed:
            self.report, self.seen = report, time.monotonic()
            self.host = report.host or self.host
            if report.answers is not None:
                self._answers[report.answers] = report
            self._changed.notify_all()


def _greeting(hello: Hello) -> bytes:
    """Raises Refusal for what cannot be sent."""
    try:
        return line_of(hello)
    except PydanticSerializationError:
        reason = "the working folder or a variable of the environment has bytes that are not UTF-8"
        allowed = "UTF-8 in everything that the hosts are told"
        raise Refusal([Problem("launcher.hostfile", "", reason, allowed)]) from None
