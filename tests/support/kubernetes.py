"""What Kubernetes does with a rendered TrainJob: validates it, and starts the command of each pod."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

import zpipe
from tests.support.process import environment

CRD = Path(__file__).parent / "kubeflow_trainer" / "trainer.kubeflow.org_trainjobs.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KUBEFLOW = (
    "launcher=kubeflow",
    "launcher.kubeflow.image=registry.example/zpipe:1",
    "launcher.kubeflow.volumes=['runs:/shared']",
    "tracking=none",
)
"""Overrides of a run in a cluster, but for its run folder."""
EVERYTHING = (
    "launcher.nodes=2",
    "launcher.kubeflow.runtime=torch-distributed",
    "launcher.kubeflow.name=my-job",
    "launcher.kubeflow.namespace=team-a",
    "launcher.kubeflow.gpus=8xH100",
    "launcher.kubeflow.cpu=64",
    "launcher.kubeflow.memory=480Gi",
    "launcher.kubeflow.volumes=['runs:/shared','models.v1:/models/a']",
    "launcher.kubeflow.env_from=['hub/token/HF_TOKEN','mlflow/MLFLOW_TRACKING_URI']",
    "launcher.kubeflow.service_account_name=trainer",
    "launcher.kubeflow.node_selector=['cloud.example/gpu=h100']",
)
"""More overrides: every key that a user may set."""


def rendered(*more: str) -> str:
    """The manifest of a job."""
    return zpipe.plan(*KUBEFLOW, *more).launch.files["trainjob.yaml"]


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ConfigMap and the TrainJob."""
    config_map, train_job = yaml.load_all(text, Loader=LOADER)
    return config_map, train_job


def schema_problems(train_job: Mapping[str, Any]) -> Iterator[str]:
    """What the schema of Kubeflow Trainer refuses, unknown fields included."""
    for error in jsonschema.Draft202012Validator(_schema()).iter_errors(train_job):
        yield f"{error.json_path}: {error.message}"


@cache
def _schema() -> dict[str, Any]:
    (definition,) = yaml.load_all(CRD.read_text(encoding="utf-8"), Loader=LOADER)
    (version,) = definition["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    _refuse_unknown_fields(schema)
    return schema


def _refuse_unknown_fields(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _refuse_unknown_fields(each)
    elif isinstance(schema, dict):
        is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
        if isinstance(schema.get("properties"), dict) and not is_open:
            schema["additionalProperties"] = False
        for each in schema.values():
            _refuse_unknown_fields(each)


def pod_arguments(train_job: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """Command and arguments of a pod, with variables expanded as Kubernetes does it."""
    trainer = train_job["spec"]["trainer"]
    return [expanded(each, variables) for each in (*trainer["command"], *trainer["args"])]


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` is replaced if it is a variable, `$$` is `$` (kubernetes/third_party/forked/golang)."""

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", replaced, text)


def start_pod(text: str, rank: int, port: int, cwd: Path) -> "subprocess.Popen[str]":
    """Starts one of the pods here: with the variables of Kubeflow's torch plugin, its files elsewhere."""
    config_map, train_job = documents(text)
    trainer = train_job["spec"]["trainer"]
    recipes = cwd / "config-map"
    recipes.mkdir(parents=True)
    for name, content in config_map["data"].items():
        (recipes / name).write_text(content, encoding="utf-8")
    variables = {
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        **{each["name"]: each["value"] for each in trainer["env"] if "value" in each},
    }
    mounted = (each.replace("/etc/zpipe/", f"{recipes}/") for each in pod_arguments(train_job, variables))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        list(mounted),
        cwd=cwd,
        env=environment({**variables, "PATH": path}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
