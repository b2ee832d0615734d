"""Kubeflow Trainer: a TrainJob whose pods start zpipe, as a user would by hand on several machines."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, ClassVar

from zpipe.hydra_text import quoted
from zpipe.launchers.base import Job, Launcher, Rendered
from zpipe.machine.target import gpus_of_a_job
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.kubeflow import MOST_NAME, Kubeflow
from zpipe.schema.launcher import Launcher as Settings
from zpipe.yaml_text import yaml_text_in_quotes

FILE_NAME = "trainjob.yaml"
RECIPE_NAME = "recipe.yaml"
RECIPE_FOLDER = "/etc/zpipe"
"""Where the pods find the recipe of the run."""
API_VERSION = "trainer.kubeflow.org/v1alpha1"
_MANAGER = "zpipe.launcher/kubeflow"
"""Kubeflow wants the owner of a patch to be a domain and a path."""
_POD = "node"
"""Name of the job of a runtime that trains, and of its container (pkg/constants/constants.go, Node)."""

# Set by the torch plugin of Kubeflow Trainer (pkg/runtime/framework/plugins/torch/torch.go).
_FROM_THE_POD = {
    "launcher.nodes": "PET_NNODES",
    "launcher.nproc_per_node": "PET_NPROC_PER_NODE",
    "launcher.node_rank": "PET_NODE_RANK",
    "launcher.master_addr": "PET_MASTER_ADDR",
    "launcher.master_port": "PET_MASTER_PORT",
}


class KubeflowTrainer(Launcher):
    """The command creates the job. In its pods, launcher.type=torchrun starts the workers."""

    several_nodes: ClassVar[bool] = True
    queues: ClassVar[bool] = True

    def render(self, job: Job) -> Rendered:
        documents = [_config_map(job), _train_job(job)]
        text = "---\n".join(map(yaml_text_in_quotes, documents))
        return Rendered(["kubectl", "create", "-f", str(job.run.launch / FILE_NAME)], files={FILE_NAME: text})


def job_name(settings: Kubeflow, run: RunFolder) -> str:
    """The name of the TrainJob: the user's, or one of the run folder, with a digest of its whole path."""
    if settings.name is not None:
        return settings.name
    digest = hashlib.sha256(str(run.path).encode(errors="surrogateescape")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", run.path.name.lower()).strip("-")
    start = f"zpipe-{words}"[: MOST_NAME - len(digest) - 1].rstrip("-")
    return f"{start}-{digest}"


def folder_in_pods(settings: Settings, run: RunFolder) -> str:
    """The run folder as the pods see it: the same path if it is on a volume, else one on the first volume."""
    mounts = [PurePosixPath(path) for _, path in _volumes(settings.kubeflow)]
    if not mounts or any(run.path.is_relative_to(mount) for mount in mounts):
        return str(run.path)
    return str(mounts[0] / job_name(settings.kubeflow, run))


def _volumes(settings: Kubeflow) -> Iterator[tuple[str, str]]:
    """Claim and path of each volume."""
    for volume in settings.volumes:
        claim, _, path = volume.partition(":")
        yield claim, path


def _metadata(job: Job) -> dict[str, Any]:
    settings = job.settings.kubeflow
    namespace = {} if settings.namespace is None else {"namespace": settings.namespace}
    labels = {"app.kubernetes.io/managed-by": "zpipe"}
    return {"name": job_name(settings, job.run), **namespace, "labels": labels}


def _config_map(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(job),
        "immutable": True,
        "data": {RECIPE_NAME: job.settled.recipe},
    }


def _train_job(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": _metadata(job),
        "spec": {
            "runtimeRef": {"name": job.settings.kubeflow.runtime},
            "trainer": _trainer(job),
            "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": _patch(job)}],
        },
    }


def _trainer(job: Job) -> dict[str, Any]:
    settings = job.settings.kubeflow
    image = {} if settings.image is None else {"image": settings.image}
    resources = dict(_resources(job))
    limits = {"resourcesPerNode": {"limits": resources, "requests": resources}} if resources else {}
    return {
        **image,
        "command": ["zpipe"],
        "args": [_as_it_is(text) for text in _arguments(job)],
        "env": [{"name": "ZPIPE_JOB", "value": "1"}, *map(_from_secret, settings.env_from)],
        "numNodes": job.settings.nodes,
        "numProcPerNode": job.nproc_per_node,
        **limits,
    }


def _arguments(job: Job) -> Iterator[str]:
    yield f"recipe={RECIPE_FOLDER}/{RECIPE_NAME}"
    yield from job.settled.overrides
    yield "launcher.type=torchrun"
    yield from job.limits_of_a_queue()
    yield f"hydra.run.dir={quoted(folder_in_pods(job.settings, job.run))}"
    for key, variable in _FROM_THE_POD.items():
        yield f"{key}=${{oc.env:{variable}}}"


def _as_it_is(argument: str) -> str:
    """Kubernetes replaces $(NAME) in arguments, and $$ by $."""
    return argument.replace("$", "$$")


def _from_secret(reference: str) -> dict[str, Any]:
    secret, _, key = reference.partition("/")
    key, _, variable = key.partition("/")
    return {"name": variable or key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _resources(job: Job) -> Iterator[tuple[str, str]]:
    settings, gpus = job.settings.kubeflow, gpus_of_a_job(job.hardware, job.settings)
    if settings.cpu is not None:
        yield "cpu", str(settings.cpu)
    if settings.memory is not None:
        yield "memory", settings.memory
    if gpus is not None:
        yield "nvidia.com/gpu", str(gpus)


def _patch(job: Job) -> dict[str, Any]:
    """What is added to the pods of the runtime."""
    pod = {"spec": {"template": {"spec": _pod(job)}}}
    return {"template": {"spec": {"replicatedJobs": [{"name": _POD, "template": pod}]}}}


def _pod(job: Job) -> dict[str, Any]:
    settings = job.settings.kubeflow
    volumes: list[dict[str, Any]] = [
        {"name": "zpipe-recipe", "configMap": {"name": job_name(settings, job.run)}},
        # The default of 64 MiB is too little for NCCL and for the workers of a data loader.
        {"name": "zpipe-shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "zpipe-recipe", "mountPath": RECIPE_FOLDER, "readOnly": True},
        {"name": "zpipe-shm", "mountPath": "/dev/shm"},  # noqa: S108 - of the pod
    ]
    for number, (claim, path) in enumerate(_volumes(settings)):
        volumes.append({"name": f"zpipe-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"zpipe-{number}", "mountPath": path})
    pod: dict[str, Any] = {
        "volumes": volumes,
        "containers": [{"name": _POD, "volumeMounts": mounts}],
    }
    if settings.termination_grace_period_seconds is not None:
        pod["terminationGracePeriodSeconds"] = settings.termination_grace_period_seconds
    if settings.service_account_name is not None:
        pod["serviceAccountName"] = settings.service_account_name
    if settings.node_selector:
        pod["nodeSelector"] = dict(label.split("=", 1) for label in settings.node_selector)
    return pod


LAUNCHER = KubeflowTrainer
