"""`python -m zpipe.running.host_agent`: zpipe on one host of a hostfile, started over ssh.

It checks the host, has the environment ready for its ranks, watches them, and leaves none behind: when
its input ends or falls silent, the zpipe that started the run is gone. The ranks watch this process.
"""

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import IO

import psutil

from zpipe.machine.guard import end_processes_with, guarded, processes_with
from zpipe.machine.handover import Handover, served
from zpipe.machine.process_identity import identity_of, is_alive
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.swap_folder import remove_swap_folder
from zpipe.running.host_checks import environment_of_ranks, host_problems, meeting_problems
from zpipe.supervise.host_messages import Finding, Hello, Order, Question, Report, line_of, message_in
from zpipe.supervise.tree import ProcessTree

POLL_SECONDS = 0.1
REPORT_SECONDS = 1.0
LAUNCH_ID = "ZPIPE_LAUNCH_ID"
_WATCHER = "deepspeed.launcher.launch"
_MOST_LINE = 1 << 24


class Agent:
    """One launch on this host."""

    def __init__(self, hello: Hello, orders: "queue.Queue[Order | None]", output: IO[bytes]) -> None:
        self._hello, self._orders, self._output = hello, orders, output
        self._plan: Plan | None = None
        self._launch: bytes | None = None
        """The variable in the environment of its processes."""
        self._tree: ProcessTree | None = None
        self._watcher = ""
        self._told, self._told_at = Report(), float("-inf")
        self._heard = time.monotonic()
        self._is_over = self._is_ending = self._must_kill = False
        self._listening, self._serving = ExitStack(), ExitStack()

    def run(self) -> None:
        """To the end of the input, or until it has been silent for too long."""
        self._plan, problems = host_problems(self._hello)
        self._answer("hello", problems)
        self._heard = time.monotonic()
        with self._listening, self._serving:
            try:
                while not self._is_over:
                    self._turn()
            finally:
                self._kill()
        if self._plan is not None:
            remove_swap_folder(self._plan)

    def _turn(self) -> None:
        """Waits a moment for an order, and tells what is new."""
        try:
            order = self._orders.get(timeout=POLL_SECONDS)
            self._heard = time.monotonic()
            if order is None:
                self._is_over = True
            else:
                self._obey(order)
        except queue.Empty:
            self._is_over = time.monotonic() - self._heard > self._hello.timeout_s
        self._look()

    def _obey(self, order: Order) -> None:
        if order.do == "serve":
            self._answer("serve", self._serve(order.mark))
        elif order.do in ("listen", "reach") and self._plan is not None:
            self._answer(order.do, list(meeting_problems(self._plan, order.do, self._listening)))
        elif order.do == "stacks" and self._tree is not None:
            self._tree.write_stacks()
        elif order.do == "stop" and self._tree is not None and not self._is_ending:
            self._is_ending = True
            self._tree.end(self._is_patient)
        elif order.do == "kill":
            self._kill()

    def _is_patient(self) -> bool:
        """While the ranks end; zpipe may want them killed, or be gone."""
        self._turn()
        return not (self._must_kill or self._is_over)

    def _serve(self, mark: str) -> list[Problem]:
        """Has the environment ready, and a guard that ends the launch if this process is killed."""
        if self._plan is None:
            return []
        self._listening.close()
        handover = Handover(environment_of_ranks(self._plan, self._hello, mark), self._hello.folder)
        try:
            self._serving.enter_context(served(mark, handover))
        except OSError as error:
            return [Problem("launcher.hostfile", "", f"the ranks cannot be served: {error.strerror}")]
        self._serving.enter_context(guarded(LAUNCH_ID, mark))
        self._launch = os.fsencode(f"{LAUNCH_ID}={mark}")
        return []

    def _kill(self) -> None:
        self._must_kill = True
        if self._launch is not None:
            end_processes_with(self._launch)

    def _look(self) -> None:
        """Exit codes are looked for each time: a watcher asks for them once a second."""
        tree = self._tree = self._tree or self._found()
        if tree is not None:
            tree.refresh()
            tree.look_for_ended_ranks()
        exits = {each.rank: each.exit_code for each in tree.rank_exits()} if tree is not None else {}
        is_alive_there = tree is not None and is_alive(self._watcher)
        is_new = (is_alive_there, exits) != (self._told.alive, self._told.exits)
        if is_new or time.monotonic() - self._told_at > REPORT_SECONDS:
            states = tree.rank_states() if tree is not None else {}
            resident = tree.resident_bytes() if tree is not None else 0
            self._tell(Report(alive=is_alive_there, states=states, exits=exits, resident=resident))

    def _found(self) -> ProcessTree | None:
        """DeepSpeed's watcher, once ssh has started it."""
        if self._launch is None:
            return None
        for pid in processes_with(self._launch):
            with suppress(OSError, psutil.Error):
                if _WATCHER in psutil.Process(pid).cmdline():
                    self._watcher = identity_of(pid)
                    return ProcessTree(pid)
        return None

    def _answer(self, question: Question, problems: Sequence[Problem]) -> None:
        findings = [Finding.of(problem) for problem in problems]
        self._tell(self._told.model_copy(update={"answers": question, "findings": findings}))

    def _tell(self, report: Report) -> None:
        self._told = report.model_copy(update={"answers": None, "findings": []})
        self._told_at = time.monotonic()
        try:
            self._output.write(line_of(report.model_copy(update={"host": socket.gethostname()})))
            self._output.flush()
        except OSError:
            self._is_over = True


def main() -> None:
    """What anything prints goes to standard error: standard output is for messages."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    output.write(b"\n")  # ends what a shell may have printed before
    output.flush()
    source = sys.stdin.buffer
    hello = message_in(Hello, source.readline(_MOST_LINE))
    if hello is None:
        sys.exit("this program is started by zpipe, which tells it about a run")
    os.environ.update(hello.inherited)
    with suppress(OSError):
        os.chdir(hello.folder)
    orders: queue.Queue[Order | None] = queue.Queue()
    threading.Thread(target=_read, args=(source, orders), name="zpipe-orders", daemon=True).start()
    Agent(hello, orders, output).run()
    os._exit(0)  # the reader may be in a read that never ends


def _read(source: IO[bytes], orders: "queue.Queue[Order | None]") -> None:
    while line := source.readline(_MOST_LINE):
        order = message_in(Order, line)
        if order is not None:
            orders.put(order)
    orders.put(None)


if __name__ == "__main__":
    main()
