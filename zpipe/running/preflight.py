"""`zpipe doctor`: whether a plan can start, on this machine and on all its nodes. It trains nothing."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from zpipe.exits import Exit
from zpipe.machine.hardware import Hardware
from zpipe.machine.node_report import node_report
from zpipe.machine.probes import missing_requirements, remove_empty
from zpipe.machine.ssh import missing_tools
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.plan_file import write_plan
from zpipe.runfolder.preflight import NodeReport, RankReport, node_reports, rank_reports, write_node_report
from zpipe.runfolder.swap_folder import folders_to_create, swap_folder_of
from zpipe.running.conclusion import reasons
from zpipe.running.leader import gather, nodes_of
from zpipe.running.member import be_ready, begun
from zpipe.running.preflight_ranks import complaints, run_ranks, wait_for_others
from zpipe.running.start import for_attempt
from zpipe.supervise.nodes import Nodes
from zpipe.supervise.stops import signals_noted
from zpipe.terminal.console import print_problems, say

FOLDER_NAME = ".doctor"
"""In the run folder, while the nodes are checked: a run can start beside it."""
WORKER = "zpipe.train.preflight"


@dataclass(frozen=True)
class Findings:
    """What is known at the end, and what is wrong with it."""

    nodes: list[NodeReport]
    ranks: list[RankReport] = field(default_factory=list)
    clocks: dict[int, float | None] = field(default_factory=dict)
    """Seconds by which the clock of a node is ahead of that of node 0."""
    problems: tuple[Problem, ...] = ()
    exit_code: Exit = Exit.FINISHED


def check_here(plan: Plan, hardware: Hardware) -> Findings:
    """This machine alone. Leaves nothing behind. Raises Refusal if a killed one has."""
    checked = _elsewhere(plan)
    refuse_if_any(_left_behind(RunFolder(Path(checked.run_dir))))
    report = node_report(checked, hardware)
    with _without_swap_folder(checked):
        lacking = missing_tools() if plan.launch.hosts else missing_requirements(checked, say)
        problems = (*lacking, *_without_swap_path(plan, [report]))
    return Findings([report], problems=problems, exit_code=Exit.ENVIRONMENT if problems else Exit.FINISHED)


def check_together(plan: Plan, hardware: Hardware) -> Findings:
    """All nodes and ranks, as node 0 or as the only node. Raises Refusal if that cannot be begun."""
    with meeting_place(Path(plan.run_dir)) as attempt:
        checked = _for_ranks(_elsewhere(plan), attempt)
        nodes = nodes_of(checked)
        with _without_swap_folder(checked):
            problems, exit_code = _checked(checked, attempt, nodes, hardware)
            if nodes is not None:
                nodes.tell("ended", ending="refused" if problems else "finished", reason=reasons(problems))
                wait_for_others(nodes)
        reports = node_reports(attempt, plan.launch.nodes)
        if missing := _without_swap_path(plan, reports):
            problems, exit_code = [*problems, *missing], exit_code or Exit.ENVIRONMENT
        clocks = {note.node: note.clock_ahead_s for note in nodes.all()} if nodes is not None else {}
        return Findings(
            reports, rank_reports(attempt, plan.launch.world_size), clocks, tuple(problems), exit_code
        )


def take_part(plan: Plan, hardware: Hardware) -> Exit:
    """The part of a node that is not node 0, which shows the findings."""
    checked, settings, nodes = _elsewhere(plan), plan.experiment.launcher, None
    say(f"node {settings.node_rank}: waiting for node 0 to begin in {checked.run_dir}")
    with _without_swap_folder(checked):
        try:
            attempt = begun(checked, settings.node_timeout_s)
            nodes = Nodes(attempt, settings)
            with suppress(OSError):  # the disk is full, and node 0 goes without it
                write_node_report(attempt, node_report(checked, hardware))
            be_ready(checked, nodes)
            is_good = run_ranks(_for_ranks(checked, attempt), attempt, nodes)
        except Refusal as refusal:
            print_problems(refusal.problems)
            if nodes is not None:
                nodes.tell("refused", reason=reasons(refusal.problems), is_cause=True)
            return Exit.REFUSED
    ending = "finished" if is_good else "rank_died"
    nodes.tell("ended", ending=ending, reason="" if is_good else "its ranks failed", is_cause=not is_good)
    say(f"node {settings.node_rank}: node 0 shows what was found")
    return Exit.FINISHED if is_good else Exit.ENVIRONMENT


@contextmanager
def meeting_place(run_dir: Path) -> Iterator[Attempt]:
    """A folder in the run folder for the nodes, which is removed again. Raises Refusal if it is in use."""
    folder = RunFolder(run_dir / FOLDER_NAME)
    created = [each for each in (run_dir, *run_dir.parents) if not each.exists()]
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.path.is_symlink():
            raise FileExistsError(17, f"{FOLDER_NAME} in it is a link")
        with folder.supervision() as is_ours:
            refuse_if_any(_in_use(folder, is_ours))
            try:
                yield folder.begin(1)
            finally:
                with signals_noted():
                    _remove(folder)
    except OSError as error:
        reason = f"the run folder cannot be written: {error.strerror}"
        raise Refusal([_problem(run_dir, reason, "hydra.run.dir=/path/to/run")]) from error
    finally:
        for each in (folder.path, *created):
            with suppress(OSError):
                each.rmdir()


def _in_use(folder: RunFolder, is_ours: bool) -> list[Problem]:
    """What is removed at the end must have been written here."""
    if not is_ours:
        return [_problem(folder.path.parent, "another zpipe doctor uses this folder", "wait for its end")]
    return _left_behind(folder)


def _left_behind(folder: RunFolder) -> list[Problem]:
    if folder.path.is_symlink():
        return [
            _problem(folder.path.parent, f"{folder.path} is a link", shlex.join(["rm", str(folder.path)]))
        ]
    if not (found := folder.occupied_by()):
        return []
    reason = f"{folder.path} is left from a zpipe doctor that was killed: {', '.join(found)}"
    return [_problem(folder.path.parent, reason, shlex.join(["rm", "-r", str(folder.path)]))]


def _problem(run_dir: Path, reason: str, fix: str) -> Problem:
    return Problem("hydra.run.dir", str(run_dir), reason, "a folder on a disk with room", fix)


def _remove(folder: RunFolder) -> None:
    for written in (folder.numbered(1).path, folder.launch):
        shutil.rmtree(written, ignore_errors=True)
    for file in (folder.plan, folder.ds_config, folder.config, folder.path / ".supervised.lock"):
        with suppress(OSError):
            file.unlink(missing_ok=True)


@contextmanager
def _without_swap_folder(plan: Plan) -> Iterator[None]:
    created = folders_to_create(plan)
    try:
        yield
    finally:
        remove_empty(plan, created)


def _elsewhere(plan: Plan) -> Plan:
    """The plan for a folder of its own: a run in the run folder may be at work."""
    run_dir = Path(plan.run_dir) / FOLDER_NAME
    swap = swap_folder_of(plan.experiment.offload, run_dir)
    return plan.model_copy(update={"run_dir": str(run_dir), "swap_dir": None if swap is None else str(swap)})


def _for_ranks(plan: Plan, attempt: Attempt) -> Plan:
    """The plan with the command that starts the ranks. Raises Refusal if the launcher cannot do that."""
    rendered = for_attempt(plan, attempt, WORKER)
    if WORKER in rendered.launch.argv:
        return rendered
    fix = "launcher=torchrun, or zpipe doctor without --launch"
    if hostfile := plan.experiment.launcher.hostfile:
        reason = "zpipe doctor does not reach the hosts of a hostfile; a run checks them before it starts"
        raise Refusal([Problem("launcher.hostfile", hostfile, reason, fix=fix)])
    reason = "this launcher starts no ranks that could be checked"
    raise Refusal([Problem("launcher.type", plan.launch.launcher, reason, fix=fix)])


def _checked(
    plan: Plan, attempt: Attempt, nodes: Nodes | None, hardware: Hardware
) -> tuple[list[Problem], Exit]:
    try:
        write_plan(plan)
        write_node_report(attempt, node_report(plan, hardware))
        with nodes.preparing() if nodes is not None else nullcontext():
            missing = missing_requirements(plan, say)
        if missing:
            return missing, Exit.ENVIRONMENT
        if nodes is not None:
            gather(plan, nodes, plan.experiment.launcher.node_timeout_s)
    except Refusal as refusal:
        return list(refusal.problems), Exit.REFUSED
    run_ranks(plan, attempt, nodes)
    found = complaints(plan, attempt, nodes)
    return found, Exit.ENVIRONMENT if found else Exit.FINISHED


def _without_swap_path(plan: Plan, reports: list[NodeReport]) -> list[Problem]:
    """A run would create the folder, on whatever disk is there."""
    path = plan.experiment.offload.nvme_path
    reason = "does not exist there: is the NVMe mounted?"
    return [
        Problem(
            f"node {each.node} ({each.host})",
            "",
            f"offload.nvme_path={path} {reason}",
            fix=shlex.join(["mkdir", "-p", str(path)]),
        )
        for each in reports
        if not each.has_swap_path
    ]
