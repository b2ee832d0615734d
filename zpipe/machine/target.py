"""The machine that a plan is made for: what is described, and this machine for everything else."""

from collections.abc import Iterator
from typing import Any

from zpipe.machine.cards import card_named, count_and_option, described_by
from zpipe.machine.hardware import Gpu, Hardware, Nvme
from zpipe.machine.hardware_fixes import (
    OF_GPUS,
    given_values,
    with_a_number,
    with_the_same_gpus,
    with_values,
)
from zpipe.machine.lacking import as_capability, in_bytes, lacking
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.schema.hardware import HardwareSettings, Tflops
from zpipe.schema.launcher import Launcher
from zpipe.trees import unflatten


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
        memory=in_bytes(given.host_memory_gib) or here.memory,
        visible_gpus=None if is_elsewhere else here.visible_gpus,
        free_disk=None if is_elsewhere else here.free_disk,
        nvme=Nvme(in_bytes(given.nvme_gib), given.nvme_read_gb_s, given.nvme_write_gb_s),
        network_gb_s=given.network_gb_s,
    )


def gpus_of_a_job(settings: HardwareSettings, launcher: Launcher) -> int | None:
    """The GPUs that a job in a queue asks for on each node; None if it asks for none."""
    return _described(settings, launcher).gpus_per_node or None


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
    given = given_values(settings)
    if gpus is not None:
        key = f"launcher.{launcher.type}.gpus"
        count, option = count_and_option(gpus, key, f"{key}=")
        card = given_values(described_by(option))
        refuse_if_any(_contradiction(settings, option, count, key, gpus))
        given = {**card, **given, "gpus_per_node": count}
    given |= {name: value for name, value in request.items() if value is not None}
    return HardwareSettings.model_validate(unflatten(given))


def _contradiction(
    settings: HardwareSettings, option: str, count: int, key: str, value: str
) -> Iterator[Problem]:
    name = described_by(option).name
    described = (settings.name or name, count if settings.gpus_per_node is None else settings.gpus_per_node)
    if described != (name, count):
        reason = f"hardware describes {described[1]} x {described[0]}"
        fix = with_the_same_gpus(settings, key, count, option)
        yield Problem(key, value, reason, "null, or the same GPUs", fix)


def _gpus(given: HardwareSettings, known: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The GPUs that are here, changed as described, and more of the first one if more are described."""
    count = len(known) if given.gpus_per_node is None else given.gpus_per_node
    if count == 0:
        refuse_if_any(_gpus_without_number(given))
        return ()
    first = known[0] if known else None
    return tuple(_gpu(given, known[index] if index < len(known) else first) for index in range(count))


def _gpus_without_number(given: HardwareSettings) -> Iterator[Problem]:
    values = given_values(given)
    name = next((name for name in values if name.startswith(OF_GPUS)), None)
    if name is not None:
        reason, allowed = "it describes GPUs, and there are none", "null, or GPUs: hardware.gpus_per_node"
        yield Problem(f"hardware.{name}", values[name], reason, allowed, with_a_number(given))


def _gpu(given: HardwareSettings, found: Gpu | None) -> Gpu:
    """Each value is the described one, that of the GPU here, or what is known of the card. Raises Refusal."""
    if given.name is not None and found is not None and found.name != given.name:
        found = None
    name = given.name or (found.name if found else None)
    card = (card_named(name) if name else None) or HardwareSettings()
    detected = found.memory if found else None
    memory = in_bytes(given.gpu_memory_gib) or detected or in_bytes(card.gpu_memory_gib)
    capability = as_capability(given.compute_capability) or (
        found.compute_capability if found else as_capability(card.compute_capability)
    )
    needed = {"gpu_memory_gib": memory, "compute_capability": capability}
    if memory is None or capability is None:
        raise Refusal([_unknown_gpu(given, [name for name, value in needed.items() if value is None])])
    return Gpu(
        name=name or "GPU",
        memory=memory,
        compute_capability=capability,
        used=max(0, found.used - (found.memory - memory)) if found else 0,
        tflops=_peaks(given.tflops, card.tflops),
        link_gb_s=given.gpu_link_gb_s or card.gpu_link_gb_s,
        host_link_gb_s=given.host_link_gb_s or card.host_link_gb_s,
    )


def _unknown_gpu(given: HardwareSettings, missing: list[str]) -> Problem:
    whose = f"zpipe does not know {given.name}" if given.name else "no GPU is here or named"
    key, allowed = f"hardware.{missing[0]}", "a value, or an option that describes the machine"
    return Problem(key, "null", f"{whose}, and this is not given", allowed, with_values(given, missing))


def _peaks(given: Tflops, card: Tflops) -> Tflops | None:
    values = {**card.given(), **given.given()}
    return Tflops(**values) if values else None


def _gib(amount: str) -> float:
    """An amount of Kubernetes, such as 480Gi, in GiB."""
    return int(amount[:-2]) * {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}[amount[-2:]]
