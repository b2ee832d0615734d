"""The TrainJob in which Kubeflow Trainer runs the workers."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from zpipe.schema.base import Count, Group
from zpipe.schema.batch import Positive
from zpipe.schema.slurm import Word

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_QUALIFIED = rf"(?:{_SUBDOMAIN}/)?[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?"
MOST_NAME = 40
"""Characters of a TrainJob's name: Kubernetes adds to it for the names of pods, which have 63."""


def _like(pattern: str, expected: str, most: int = 253) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > most or re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(f"expected {expected}, of at most {most} characters")
        return value

    return AfterValidator(check)


JOB_NAME = rf"[a-z](?:[-a-z0-9]{{0,{MOST_NAME - 2}}}[a-z0-9])?"
JobName = Annotated[
    str, _like(JOB_NAME, "lower-case letters, digits and hyphens that begin with a letter", MOST_NAME)
]
Label = Annotated[str, _like(_LABEL, "lower-case letters, digits and hyphens (DNS-1123)", 63)]
Subdomain = Annotated[str, _like(_SUBDOMAIN, "lower-case letters, digits, hyphens and dots (DNS-1123)")]
Image = Annotated[str, _like(r"[\w][\w.:/@+-]*", "the name of an image", 500)]
Memory = Annotated[str, _like(r"[1-9]\d{0,8}(?:Mi|Gi|Ti)", "an amount such as 480Gi")]
Volume = Annotated[str, _like(rf"{_SUBDOMAIN}:/[\w./-]*[\w-]", "CLAIM:/PATH", 1024)]
SecretKey = Annotated[
    str,
    _like(
        rf"{_SUBDOMAIN}/(?:[A-Za-z_]\w*|[-\w.]+/[A-Za-z_]\w*)",
        "SECRET/KEY or SECRET/KEY/VARIABLE, which names a key of a Secret",
        600,
    ),
]
NodeLabel = Annotated[
    str, _like(rf"{_QUALIFIED}=(?:[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?)?", "LABEL=VALUE", 400)
]


class Kubeflow(Group):
    """The TrainJob in which Kubeflow Trainer runs the workers. Names are those of its specification."""

    image: Image | None = None
    """Image of the pods, with zpipe installed; needed."""
    runtime: Subdomain = "torch-distributed"
    """ClusterTrainingRuntime that the job refers to; it must set PyTorch's variables (`torch`)."""
    name: JobName | None = None
    """Name of the TrainJob; null derives one from the run folder."""
    namespace: Label | None = None
    """Namespace; null is that of kubectl's context."""
    gpus: Word | None = None
    """GPUs of each pod as COUNTxNAME, as in 8xH100; the plan is made for them. null: those of `hardware`."""
    cpu: Positive | None = None
    """CPU cores of each pod."""
    memory: Memory | None = None
    """Host memory of each pod, such as 480Gi."""
    volumes: list[Volume] = []
    """Volume claims as CLAIM:/PATH. The run folder is on the first, unless it lies on another."""
    env_from: list[SecretKey] = []
    """Variables of the pods from Secrets, as SECRET/KEY/VARIABLE, or SECRET/KEY if both have one name."""
    service_account_name: Subdomain | None = None
    """Service account of the pods."""
    node_selector: list[NodeLabel] = []
    """Labels that the nodes must have, as LABEL=VALUE."""
    termination_grace_period_seconds: Annotated[Count, Field(ge=0)] | None = 120
    """Seconds that a pod which must go has to save and to stop; null leaves them to the runtime."""
