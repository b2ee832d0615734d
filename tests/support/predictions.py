"""Predictions of memory made by hand: of a plan on a GPU, or with simple sums instead of zpipe's model."""

from zpipe.facts.facts import Facts
from zpipe.plans.memory import GpuMemory, HostMemory, MemoryPrediction, Table, Term
from zpipe.schema.experiment import Experiment

GIB = 2**30
BAND = 0.05


def term(name: str, gib: float) -> Term:
    return Term(name=name, bytes=round(gib * GIB), formula=f"{gib} GiB", source="by hand")


def prediction(
    gpu_gib: float | None = 28.5, host_gib: float = 6.0, *, ranks: int = 2, disk_gib: float = 0.0
) -> MemoryPrediction:
    """A third of the GPU's tensors are states; 1.6 GiB of the cache and 0.8 of the context come on top."""
    gpu = None
    if gpu_gib is not None:
        states, activations = term("optimizer states", gpu_gib / 3), term("activations", gpu_gib * 2 / 3)
        gpu = GpuMemory(
            phase="backward",
            allocated=Table(terms=[states, activations]),
            cache=Table(terms=[term("fragments", 1.6)]),
            context=Table(terms=[term("CUDA context", 0.8)]),
            margin=BAND,
        )
    host = HostMemory(
        rank=Table(terms=[term("libraries", host_gib)]),
        phase="train",
        ranks=ranks,
        shared=Table(terms=[term("shared memory", 0.3)]),
    )
    disk = Table(terms=[term("swap files", disk_gib)] if disk_gib else [])
    return MemoryPrediction(gpu=gpu, host=host, disk=disk, band=BAND)


def simple_prediction(experiment: Experiment, facts: Facts) -> MemoryPrediction | None:
    """16 bytes a parameter, on GPU, host or disk; 34 bytes a layer, token and hidden value of activations."""
    parameters, config = facts.model.parameters, facts.model.config
    if parameters is None:
        return None
    offload, stage, ranks = experiment.offload, experiment.stage.stage, facts.world_size
    states = Term(
        name="optimizer states",
        bytes=12 * parameters // (ranks if stage else 1),
        formula="12 B x P",
        source="here",
    )
    weights = Term(
        name="parameters",
        bytes=4 * parameters // (ranks if stage == 3 else 1),
        formula="4 B x P",
        source="here",
    )
    on_gpu: list[Term] = []
    on_host, on_disk = [term("libraries", 1.0)], list[Term]()
    places = {"none": on_gpu, "cpu": on_host, "nvme": on_disk}
    places[offload.offload_optimizer.device].append(states)
    places[offload.offload_param.device].append(weights)
    layers = 1 if experiment.train.gradient_checkpointing else int(config["num_hidden_layers"])
    tokens = facts.micro_batch * experiment.data.max_length
    activations = 34 * int(config["hidden_size"]) * layers * tokens
    on_gpu.append(Term(name="activations", bytes=activations, formula="34 B x h x l x t", source="here"))
    allocated = Table(terms=on_gpu)
    gpu = GpuMemory(phase="backward", allocated=allocated, cache=Table(), context=Table(), margin=BAND)
    host = HostMemory(rank=Table(terms=on_host), phase="train", ranks=facts.nproc_per_node)
    return MemoryPrediction(gpu=gpu, host=host, disk=Table(terms=on_disk), band=BAND)
