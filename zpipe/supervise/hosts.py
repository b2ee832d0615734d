"""The hosts of a hostfile: on each, an agent of zpipe checks the host, watches its ranks and ends them.

DeepSpeed's runner starts the ranks. It is never asked to end them: on a signal it kills every launch of
DeepSpeed on every host, those of other runs included (deepspeed/launcher/runner.py, kill_cmd).
"""

import hashlib
import os
import platform
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zpipe.machine.ssh import ssh_command
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, refuse_if_any
from zpipe.runfolder.foreign_files import read_bytes, read_end
from zpipe.runfolder.nodes import NodeNote
from zpipe.runfolder.outcome import Ending
from zpipe.runfolder.plan_file import folder_of
from zpipe.supervise.host_link import HostLink
from zpipe.supervise.host_messages import BEAT_SECONDS, Finding, Hello, Order, Question

AGENT = "zpipe.running.host_agent"
ANSWER_SECONDS = 120.0
"""A host may wait for workers of the attempt before; one that is not there is noticed earlier."""
REACH_SECONDS = 30.0
END_SECONDS = 5.0
_INHERITED = (
    *("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_", "TOKENIZERS_", "TORCH", "PYTORCH_", "TRITON_"),
    *("NCCL_", "GLOO_", "UCX_", "MV2_", "OMP_", "MKL_", "DS_", "PYTHON", "ZPIPE_"),
)
_OF_THIS_PROCESS = ("ZPIPE_PARENT", "ZPIPE_PARENT_PLACE", "ZPIPE_LAUNCH_ID", "ZPIPE_JOB_ID", "DS_ENV_FILE")
_RUNNER_SAID = re.compile(
    r"^pdsh@\S+: (?P<host>\S+): ssh exited with exit code (?P<code>[1-9]\d*)$", re.MULTILINE
)
_SHOWN_BYTES = 1 << 16


class Hosts:
    """Used by one thread; its own thread gives the agents signs of life."""

    def __init__(self, plan: Plan) -> None:
        settings = plan.experiment.launcher
        self._plan, self._attempt = plan, folder_of(plan).attempt
        self._timeout, self._port = settings.node_timeout_s, settings.ssh_port
        self._over = threading.Event()
        self._looked = float("-inf")
        self._failed_there: NodeNote | None = None
        self.links: list[HostLink] = []
        self.mark = uuid.uuid4().hex
        """The value of ZPIPE_LAUNCH_ID in every process of the launch, on all hosts."""

    def gather(self) -> None:
        """Has each host check itself and reach node 0. Raises Refusal that names every host that cannot."""
        digest = hashlib.sha256(read_bytes(folder_of(self._plan).plan)).hexdigest()
        for node, host in enumerate(self._plan.launch.hosts):
            command = self._agents_command(host.name)
            self.links.append(HostLink(node, host.name, command, self._hello(node, digest)))
        threading.Thread(target=self._beat, name="zpipe-beat", daemon=True).start()
        refuse_if_any(self._problems("hello", self.links, ANSWER_SECONDS))
        first, *others = self.links
        first.send(Order(do="listen"))
        refuse_if_any(self._problems("listen", [first], REACH_SECONDS))
        self.order("reach", others)
        refuse_if_any(self._problems("reach", others, REACH_SECONDS))
        for link in self.links:
            link.send(Order(do="serve", mark=self.mark))
        refuse_if_any(self._problems("serve", self.links, REACH_SECONDS))

    def order(self, what: str, links: "list[HostLink] | None" = None) -> None:
        order = Order.model_validate({"do": what})
        for link in self.links if links is None else links:
            link.send(order)

    def tell(self) -> None:
        """Signs of life go out by themselves."""

    def failed(self) -> NodeNote | None:
        """The first host that is lost, or on which the launch has failed."""
        for link in self.links:
            reason = self._lost(link)
            if reason is not None:
                return _note(link, reason, is_cause=True)
        for link in self.links:
            for rank, code in link.report.exits.items():
                return _note(link, f"rank {rank} exited with code {code}")
        return self._failed_there or self._runner_noticed()

    def last_words(self) -> NodeNote | None:
        return self.failed()

    @property
    def alive(self) -> bool:
        """Whether the launch still runs on a host that can be asked."""
        return any(link.report.alive for link in self.links if self._lost(link) is None)

    def places(self) -> dict[int, str]:
        """For each rank, the node on which it runs."""
        count = self._plan.launch.nproc_per_node
        return {rank: self.links[rank // count].title for rank in range(count * len(self.links))}

    def close(self) -> None:
        self._over.set()
        for link in self.links:
            link.hang_up()
        until = time.monotonic() + END_SECONDS
        for link in self.links:
            link.wait(until)

    def _agents_command(self, host: str) -> list[str]:
        path = self._plan.launch.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        variables = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        return ssh_command(host, [sys.executable, "-m", AGENT], variables, self._port)

    def _hello(self, node: int, digest: str) -> Hello:
        return Hello(
            node=node,
            run_dir=self._plan.run_dir,
            folder=str(Path.cwd()),
            plan_digest=digest,
            python=platform.python_version(),
            inherited=inherited(os.environ),
            chosen=self._plan.experiment.launcher.env,
            timeout_s=self._timeout,
        )

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self.order("beat")

    def _problems(self, question: Question, links: list[HostLink], seconds: float) -> list[Problem]:
        """Of all hosts, in their order: they work on the answer at the same time."""
        until = time.monotonic() + seconds
        answers = [(link, link.answer(question, until)) for link in links]
        found = []
        for link, answer in answers:
            findings = answer.findings if answer is not None else [_no_answer(link, seconds)]
            found += [
                Problem(link.title, "", f"{each.key}: {each.reason}", each.allowed, each.fix)
                for each in findings
            ]
        return found

    def _lost(self, link: HostLink) -> str | None:
        if link.has_ended:
            return f"the connection to it ended: {link.last_words() or 'its agent was killed'}"
        return f"gave no sign of life for {self._timeout:.0f} s" if link.silence > self._timeout else None

    def _runner_noticed(self) -> NodeNote | None:
        """A host whose watcher failed, as pdsh says it: the agent may miss the end of a rank."""
        if time.monotonic() - self._looked < 1.0 or not self._attempt.launcher_log.is_file():
            return None
        self._looked = time.monotonic()
        said = _RUNNER_SAID.search(read_end(self._attempt.launcher_log, _SHOWN_BYTES))
        links = {link.name: link for link in self.links}
        if said is not None and said["host"] in links:
            reason = f"DeepSpeed's launcher ended there with exit code {said['code']}"
            self._failed_there = _note(links[said["host"]], reason)
        return self._failed_there


@contextmanager
def hosts_of(plan: Plan) -> Iterator[Hosts | None]:
    """None for a run without a hostfile. However the block ends, no host keeps a process of the run."""
    if not plan.launch.hosts:
        yield None
        return
    hosts = Hosts(plan)
    try:
        yield hosts
    finally:
        hosts.close()


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Of zpipe's environment, what the ranks get: settings of their libraries. Their host gives the rest."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_INHERITED) and name not in _OF_THIS_PROCESS
    }


def _no_answer(link: HostLink, seconds: float) -> Finding:
    if not link.has_ended:
        return Finding(key="ssh", reason=f"no answer within {seconds:.0f} s")
    reason = link.last_words() or "the connection ended without an answer"
    fix = f"`ssh {link.name}` must work without a question, and have Python and zpipe under the same path"
    return Finding(key="ssh", reason=reason, fix=fix)


def _note(link: HostLink, reason: str, is_cause: bool = False) -> NodeNote:
    ending: Ending = "rank_died" if is_cause else "failed"
    return NodeNote(
        node=link.node, host=link.host, state="ended", ending=ending, reason=reason, is_cause=is_cause
    )
