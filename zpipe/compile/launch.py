"""The command that starts the workers, and the variables added to their environment."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import zpipe
from zpipe.facts.facts import Facts
from zpipe.launchers import launcher_of
from zpipe.launchers.base import NOTHING_SETTLED, Job, Settled
from zpipe.plans.plan import Launch
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.experiment import Experiment

_ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"}
"""Variables that configure PyTorch's allocator; the user's choice is kept."""


def launch_of(
    experiment: Experiment,
    facts: Facts,
    run_dir: Path,
    command: Sequence[str],
    settled: Settled = NOTHING_SETTLED,
) -> Launch:
    """The launch part of the plan. The user's `launcher.env` comes last and wins."""
    launcher, run = launcher_of(experiment.launcher.type), RunFolder(run_dir)
    attempt = run.numbered(1)
    settings, gpus, hosts = experiment.launcher, facts.hardware.visible_gpus, facts.hosts.hosts
    processes = facts.nproc_per_node
    described, typed = experiment.hardware, tuple(command)
    job = Job(run, attempt, settings, facts.device, processes, typed, gpus, hosts, settled, described)
    rendered = launcher.render(job)
    return Launch(
        launcher=experiment.launcher.type,
        device=facts.device,
        nproc_per_node=facts.nproc_per_node,
        world_size=facts.world_size,
        nodes=facts.nodes,
        gpu_memory=_gpu_memory(experiment, facts),
        hosts=list(facts.hosts.hosts),
        argv=rendered.argv,
        env={**_environment(facts), **rendered.env, **experiment.launcher.env},
        files=dict(rendered.files),
    )


def _gpu_memory(experiment: Experiment, facts: Facts) -> int | None:
    """What was described as the memory of a GPU is all that a run may use."""
    is_limited = experiment.hardware.gpu_memory_gib is not None and facts.device == "cuda"
    return min(gpu.memory for gpu in facts.hardware.gpus) if is_limited and facts.hardware.gpus else None


def _environment(facts: Facts) -> dict[str, str]:
    """Only the variables that differ from the parent's."""
    environment = {
        # ninja and other build tools are next to the interpreter, which may not be on the PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *_searchable()]),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # torchrun sets 1 if there are several ranks, which slows down CPU Adam and gloo.
        "OMP_NUM_THREADS": str(max(1, facts.hardware.cores // facts.nproc_per_node)),
    }
    if facts.device == "cpu":
        environment["DS_ACCELERATOR"] = "cpu"
    elif not _ALLOCATOR & os.environ.keys():
        # Freed memory of any size can be used again: less is reserved, and what is reserved can be predicted.
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    return {**environment, **_import_path()}


def _searchable() -> list[str]:
    """The folders of the PATH without those of another user, such as root's.

    They turn "not found" into "permission denied", which DeepSpeed does not expect when it looks for a tool.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [folder for folder in folders if os.access(folder or ".", os.X_OK) or not os.path.lexists(folder)]


def _import_path() -> dict[str, str]:
    """Lets workers import zpipe from a checkout: the working folder is not on their import path."""
    root = Path(zpipe.__file__).parents[1]
    if not (root / "conf" / "config.yaml").is_file():
        return {}
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{given}{os.pathsep}{root}" if given else str(root)}
