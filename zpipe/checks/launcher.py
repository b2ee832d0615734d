"""The launcher: its name, its processes and their environment."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.launchers import launcher_of, names
from zpipe.launchers.base import Launcher
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either, nearest
from zpipe.runfolder.pace import pace_of
from zpipe.schema.experiment import Experiment


def visible_gpus_are_set_for_zpipe_itself(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The plan counts the GPUs that zpipe sees, and the workers must see the same."""
    name = "CUDA_VISIBLE_DEVICES"
    value, key = experiment.launcher.env.get(name), f"launcher.env.{name}"
    if value is not None:
        reason = f"the plan counts the GPUs visible to zpipe itself; start it as `{name}={value} zpipe …`"
        yield Problem(key, value, reason, "only in the environment of zpipe itself", either(f"~{key}"))


def launcher_is_installed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A package may add launchers, so that the schema does not know them all."""
    name = experiment.launcher.type
    if _launcher(name) is None:
        known = names()
        fix = either(f"launcher.type={(nearest(name, known) or known)[0]}")
        yield Problem("launcher.type", name, "no such launcher is installed", ", ".join(known), fix)


def launcher_starts_as_many_processes(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    name, processes = experiment.launcher.type, facts.nproc_per_node
    launcher = _launcher(name)
    most = launcher.most_processes if launcher else None
    if most is not None and processes > most:
        fix = either("launcher=torchrun", f"launcher.nproc_per_node={most}")
        reason = f"launcher={name} runs a single process"
        yield Problem("launcher.nproc_per_node", processes, reason, f"{most}", fix)


def several_nodes_can_meet(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Each node has a number, knows where node 0 is, and has a launcher that works across machines."""
    settings = experiment.launcher
    if settings.node_rank >= settings.nodes and settings.hostfile is None:
        allowed = f"0 to {settings.nodes - 1}" if settings.nodes > 1 else "0"
        fix = either("launcher.node_rank=0")
        reason = f"launcher.nodes={settings.nodes}, and nodes are numbered from 0"
        yield Problem("launcher.node_rank", settings.node_rank, reason, allowed, fix)
    if settings.nodes == 1 or settings.hostfile is not None:
        return
    launcher = _launcher(settings.type)
    if launcher is not None and not launcher.several_nodes:
        reason = f"launcher={settings.type} starts the workers of one machine"
        fix = either("launcher=torchrun", "launcher=deepspeed")
        yield Problem("launcher.nodes", settings.nodes, reason, "1", fix)
    if experiment.hardware.name is None:
        yield from unknown_address(experiment)


def unknown_address(experiment: Experiment) -> Iterator[Problem]:
    """Where the nodes meet; a plan for a machine that is described is shown without it."""
    settings = experiment.launcher
    launcher = _launcher(settings.type)
    if settings.nodes == 1 or settings.hostfile is not None or settings.master_addr is not None:
        return
    if launcher is None or not launcher.queues:
        reason = "the nodes meet on node 0, and each of them must know its address"
        allowed = "a host name or an address of node 0"
        yield Problem("launcher.master_addr", "null", reason, allowed, either("launcher.master_addr=HOST"))


def nodes_have_time_for_signs_of_life(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Each node gives them less often where there are many."""
    settings = experiment.launcher
    least = pace_of(settings.nodes).least_timeout
    if settings.nodes > 1 and settings.node_timeout_s < least:
        reason = (
            f"each of {settings.nodes} nodes gives a sign of life every {pace_of(settings.nodes).beat:.1f} s"
        )
        fix = either(f"launcher.node_timeout_s={least}")
        yield Problem("launcher.node_timeout_s", settings.node_timeout_s, reason, f"{least} or more", fix)


def rendezvous_is_used(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Other launchers than torchrun have none; the agent of one machine uses a file and opens no port."""
    settings = experiment.launcher
    backend, launcher = settings.rdzv_backend, _launcher(settings.type)
    if backend == "static" or launcher is None:
        return
    fix, allowed = either("launcher.rdzv_backend=static"), "static"
    if backend not in launcher.rendezvous:
        reason = f"launcher={settings.type} would ignore it"
        yield Problem("launcher.rdzv_backend", backend, reason, allowed, fix)
    elif settings.nodes == 1:
        reason = "the agent of one machine meets nobody, and opens no port"
        yield Problem("launcher.rdzv_backend", backend, reason, f"{allowed} with launcher.nodes=1", fix)


def warn_about_a_rendezvous_of_pickles(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """torch/distributed/elastic/rendezvous/dynamic_rendezvous.py keeps its state as a pickle in the store."""
    settings = experiment.launcher
    if settings.rdzv_backend == "c10d" and settings.nodes > 1:
        text = (
            f"every agent loads pickles from port {settings.master_port} of node 0: who reaches it can run "
            "code on all nodes. Use it on a trusted network only; launcher.rdzv_backend=static has no pickles"
        )
        yield Notice(level="warning", key="launcher.rdzv_backend", text=text)


def deepspeed_launcher_knows_gpus_by_index(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """It reads each name as a number (deepspeed/launcher/runner.py, parse_node_config)."""
    names_given = facts.hardware.visible_gpus or ()
    is_affected = experiment.launcher.type == "deepspeed" and facts.device == "cuda"
    if is_affected and not all(name.isdigit() for name in names_given):
        reason = "DeepSpeed's launcher knows GPUs by their index only"
        fix = either("launcher=torchrun")
        yield Problem("CUDA_VISIBLE_DEVICES", ",".join(names_given), reason, "indices, such as 0,1", fix)


def _launcher(name: str) -> Launcher | None:
    try:
        return launcher_of(name)
    except LookupError:
        return None


ERRORS = (
    visible_gpus_are_set_for_zpipe_itself,
    launcher_is_installed,
    launcher_starts_as_many_processes,
    several_nodes_can_meet,
    nodes_have_time_for_signs_of_life,
    rendezvous_is_used,
    deepspeed_launcher_knows_gpus_by_index,
)
NOTICES = (warn_about_a_rendezvous_of_pickles,)
