"""The machine that a plan is made for: what is described, and this machine for everything else."""

from collections.abc import Iterator
from typing import Any

from zpipe.machine.cards import card_named, count_and_option, described_by
from zpipe.machine.hardware import Gpu, Hardware, Nvme
from zpipe.problems import Fix, Problem, Refusal, either, refuse_if_any
from zpipe.schema.hardware import HardwareSettings, Tflops
from zpipe.schema.launcher import Launcher
from zpipe.trees import flatten, unflatten

GIB = 2**30
TOLERANCE = 0.05
"""The share of a memory that drivers and the kernel keep for themselves."""
_OF_GPUS = ("name", "gpu_memory_gib", "compute_capability", "gpu_link_gb_s", "host_link_gb_s", "tflops.")
"""Beginnings of keys that mean nothing without a GPU."""


def target_hardware(settings: HardwareSettings, launcher: Launcher, here: Hardware) -> Hardware:
    """One node of the machine that the plan is for.

    For a job in a queue that is what it asks for; a pod has the GPUs that it asks for, and no others. Raises
    Refusal for a description that is not complete.
    """
    given = _described(settings, launcher)
    is_job = launcher.type == "kubeflow" or (launcher.type == "slurm" and given.gpus_per_node is not None)
    known = () if launcher.type == "kubeflow" else here.gpus
    is_elsewhere = is_job or any(lacking(given, here))
    return Hardware(
        gpus=_gpus(given, known),
        cores=given.cores or here.cores,
        memory=_bytes(given.host_memory_gib) or here.memory,
        visible_gpus=None if is_elsewhere else here.visible_gpus,
        free_disk=None if is_elsewhere else here.free_disk,
        nvme=Nvme(_bytes(given.nvme_gib), given.nvme_read_gb_s, given.nvme_write_gb_s),
        network_gb_s=given.network_gb_s,
    )


def lacking(settings: HardwareSettings, here: Hardware) -> Iterator[Problem]:
    """What is described and this machine does not have: a run here would not be the one that was planned."""
    count, memory = settings.gpus_per_node, _bytes(settings.gpu_memory_gib)
    used = here.gpus[:count]
    if count is not None and count > len(here.gpus):
        yield _lack("gpus_per_node", count, f"{len(here.gpus)} that PyTorch can use")
    least = min((gpu.memory for gpu in used), default=None)
    if memory is not None and least is not None and least < memory * (1 - TOLERANCE):
        yield _lack("gpu_memory_gib", settings.gpu_memory_gib, f"{least / GIB:.1f} GiB on a GPU")
    oldest = min((gpu.compute_capability for gpu in used), default=None)
    wanted = _capability(settings.compute_capability)
    if wanted is not None and oldest is not None and oldest < wanted:
        yield _lack("compute_capability", settings.compute_capability, f"{oldest[0]}.{oldest[1]}")
    host = _bytes(settings.host_memory_gib)
    if host is not None and here.memory < host * (1 - TOLERANCE):
        yield _lack("host_memory_gib", settings.host_memory_gib, f"{here.memory / GIB:.1f} GiB")
    if settings.cores is not None and here.cores < settings.cores:
        yield _lack("cores", settings.cores, str(here.cores))


def gpus_of_a_job(settings: HardwareSettings, launcher: Launcher) -> int | None:
    """The GPUs that a job in a queue asks for on each node; None if it asks for none."""
    return _described(settings, launcher).gpus_per_node or None


def _lack(name: str, value: object, found: str) -> Problem:
    key = f"hardware.{name}"
    fix = either("hardware=here", f"{key}=null")
    return Problem(key, value, f"this machine has {found}", "what it has; a plan may describe more", fix)


def _described(settings: HardwareSettings, launcher: Launcher) -> HardwareSettings:
    """The settings, with what a job asks for. GPUs of a job stand for the option of their name."""
    request: dict[str, Any] = {}
    gpus = None
    if launcher.type == "slurm":
        gpus, request["cores"] = launcher.slurm.gpus, launcher.slurm.cpus_per_task
    elif launcher.type == "kubeflow":
        pod = launcher.kubeflow
        gpus, request["cores"] = pod.gpus, pod.cpu
        request["host_memory_gib"] = None if pod.memory is None else _gib(pod.memory)
    if gpus is None and not any(request.values()):
        return settings
    given = _given(settings)
    if gpus is not None:
        key = f"launcher.{launcher.type}.gpus"
        count, option = count_and_option(gpus, key, f"{key}=")
        card = _given(described_by(option))
        refuse_if_any(_contradiction(settings, card["name"], count, key, gpus))
        given = {**card, **given, "gpus_per_node": count}
    given |= {name: value for name, value in request.items() if value is not None}
    return HardwareSettings.model_validate(unflatten(given))


def _contradiction(
    settings: HardwareSettings, name: str, count: int, key: str, value: str
) -> Iterator[Problem]:
    described = (settings.name or name, count if settings.gpus_per_node is None else settings.gpus_per_node)
    if described != (name, count):
        reason = f"hardware describes {described[1]} x {described[0]}"
        yield Problem(key, value, reason, "null, or the same GPUs", either(f"{key}=null"))


def _given(settings: HardwareSettings) -> dict[str, Any]:
    """What is not null, by dotted keys."""
    return {key: value for key, value in flatten(settings.given()).items() if value != {}}


def _gpus(given: HardwareSettings, known: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The GPUs that are here, changed as described, and more of the first one if more are described."""
    count = len(known) if given.gpus_per_node is None else given.gpus_per_node
    if count == 0:
        refuse_if_any(_gpus_without_number(given))
        return ()
    first = known[0] if known else None
    return tuple(_gpu(given, known[index] if index < len(known) else first) for index in range(count))


def _gpus_without_number(given: HardwareSettings) -> Iterator[Problem]:
    values = _given(given)
    name = next((name for name in values if name.startswith(_OF_GPUS)), None)
    if name is not None:
        reason, allowed = "it describes GPUs, and there are none", "null, or GPUs: hardware.gpus_per_node"
        yield Problem(f"hardware.{name}", values[name], reason, allowed, _known_or_none(given))


def _known_or_none(given: HardwareSettings) -> Fix:
    """Overrides for a machine that is known, and for none."""
    names = [name for name in _given(given) if name.startswith((*_OF_GPUS, "gpus_per_node"))]
    return either("hardware=h100_80gb", " ".join(f"hardware.{name}=null" for name in names))


def _gpu(given: HardwareSettings, found: Gpu | None) -> Gpu:
    """Each value is the described one, that of the GPU here, or what is known of the card. Raises Refusal."""
    if given.name is not None and found is not None and found.name != given.name:
        found = None
    name = given.name or (found.name if found else None)
    card = (card_named(name) if name else None) or HardwareSettings()
    detected = found.memory if found else None
    memory = _bytes(given.gpu_memory_gib) or detected or _bytes(card.gpu_memory_gib)
    capability = _capability(given.compute_capability) or (
        found.compute_capability if found else _capability(card.compute_capability)
    )
    if memory is None or capability is None:
        raise Refusal(_unknown_gpu(given, memory is None))
    return Gpu(
        name=name or "GPU",
        memory=memory,
        compute_capability=capability,
        used=max(0, found.used - (found.memory - memory)) if found else 0,
        tflops=_peaks(given.tflops, card.tflops),
        link_gb_s=given.gpu_link_gb_s or card.gpu_link_gb_s,
        host_link_gb_s=given.host_link_gb_s or card.host_link_gb_s,
    )


def _unknown_gpu(given: HardwareSettings, lacks_memory: bool) -> list[Problem]:
    name = "gpu_memory_gib" if lacks_memory else "compute_capability"
    whose = f"zpipe does not know {given.name}" if given.name else "no GPU is here or named"
    key, allowed = f"hardware.{name}", "a value, or an option that describes the machine"
    return [Problem(key, "null", f"{whose}, and this is not given", allowed, _known_or_none(given))]


def _peaks(given: Tflops, card: Tflops) -> Tflops | None:
    values = {**card.given(), **given.given()}
    return Tflops(**values) if values else None


def _capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else round(gib * GIB)


def _gib(amount: str) -> float:
    """An amount of Kubernetes, such as 480Gi, in GiB."""
    return int(amount[:-2]) * {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}[amount[-2:]]
