"""Whether what a plan is predicted to need is there: on the GPU, on the host and on the disk.

The error of the prediction counts in favor of the run: it does not fit only where it could not fit even if
the prediction were too high by its whole error.
"""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.machine.hardware import Gpu
from zpipe.plans.memory import Fit, MemoryPrediction, Resource, Verdict
from zpipe.runfolder.swap_folder import swap_folder_of
from zpipe.schema.experiment import Experiment

_DRIVER_BYTES = 256 * 2**20
_DRIVER_SHARE = 0.003
"""What NVIDIA's driver keeps of the memory that NVML reports, before any process uses it: 0.5 GiB of an H100,
0.7 GiB of an H200. torch.cuda.get_device_properties leaves it out."""


def verdict(used: int, limit: int, band: float, margin: float) -> Verdict:
    """By relative errors of `used`: at least `band` less is needed, at most `margin` more."""
    if used * (1 + margin) <= limit:
        return "fits"
    return "does not fit" if used * (1 - band) > limit else "tight"


def fits_of(prediction: MemoryPrediction, experiment: Experiment, facts: Facts) -> Iterator[Fit]:
    """One for each resource that the run needs and whose limit is known.

    Of the disk, that is what swap files need: for checkpoints there are rules of their own.
    """

    def fit(resource: Resource, used: int, limit: int, held: int = 0) -> Fit:
        found = verdict(used, limit, prediction.band, prediction.margin_of(resource))
        return Fit(resource=resource, used=used, limit=limit, held=held, verdict=found)

    fullest = _fullest_gpu(facts)
    if prediction.gpu is not None and fullest is not None:
        yield fit("GPU", prediction.gpu.used, _usable(fullest), fullest.used)
    if prediction.host is not None and _knows_host_memory(experiment):
        yield fit("host", prediction.host.node, facts.hardware.memory)
    room = room_for_swapping(experiment, facts)
    if prediction.swap_files.total and room is not None:
        yield fit("disk", prediction.swap_files.total, room)


def parameters_exceed_gpu(experiment: Experiment, facts: Facts, band: float) -> bool:
    """Below stage 3 each GPU holds them all: this is known without playing a step."""
    fullest, numels = _fullest_gpu(facts), facts.parameter_numels
    if experiment.stage.stage == 3 or fullest is None or numels is None or facts.device != "cuda":
        return False
    element = 4 if facts.parameter_dtype == "fp32" else 2
    return verdict(element * sum(numels), _usable(fullest), band, band) == "does not fit"


def _fullest_gpu(facts: Facts) -> Gpu | None:
    """The one with the least room of those that the ranks of a node use."""
    slots = facts.hosts.hosts[0].slots if facts.hosts.hosts else range(facts.nproc_per_node)
    gpus = facts.hardware.gpus
    return min((gpus[index] for index in slots if index < len(gpus)), key=_usable, default=None)


def _usable(gpu: Gpu) -> int:
    """Bytes that a process can allocate on this GPU."""
    return max(0, gpu.memory - gpu.used - _DRIVER_BYTES - round(_DRIVER_SHARE * gpu.memory))


def _knows_host_memory(experiment: Experiment) -> bool:
    """A job in a queue runs on other machines than the one that plans it."""
    launcher = experiment.launcher
    return launcher.type != "slurm" and (launcher.type != "kubeflow" or launcher.kubeflow.memory is not None)


def room_for_swapping(experiment: Experiment, facts: Facts) -> int | None:
    """Of the disk of swap files; None for another machine whose disk is not described."""
    free, run_dir = facts.hardware.free_disk, facts.run_dir
    if facts.hardware.nvme.free is not None:
        return facts.hardware.nvme.free
    if free is None or run_dir is None:
        return None
    swap = swap_folder_of(experiment.offload, run_dir)
    try:
        return None if swap is None else free(swap)
    except OSError:
        return None
