"""Predicts the memory that a run needs, without torch."""

from functools import lru_cache

from zpipe.facts.decoder import decoder_of
from zpipe.facts.facts import Facts
from zpipe.memory.allocator import Allocator
from zpipe.memory.context import context_table
from zpipe.memory.disk import disk_table
from zpipe.memory.formulas import formulas
from zpipe.memory.gathered import Gathered
from zpipe.memory.host import host_memory
from zpipe.memory.model import Model, model_of
from zpipe.memory.model_passes import ModelPasses
from zpipe.memory.sizes import Sizes, sizes_of
from zpipe.memory.steps import play
from zpipe.memory.tape import Peak, Tape
from zpipe.plans.memory import GpuMemory, MemoryPrediction, Table, Term
from zpipe.schema.experiment import Experiment

_KNOWN, _ON_CPU, _GENERIC = 0.05, 0.3, 0.2
"""Relative errors: of architectures that were measured on GPUs, of training on the CPU, of other models."""
_STEADY_MARGIN, _STEADY_ROOM = 0.02, 4
"""How much more GPU memory runs used at most, relative, whose update went into free blocks at least so many
times as large as its tensors: the layers alone decide then. 40 runs used at most 0.6% more."""
_MEASURED = frozenset({"llama", "qwen2"})
"""Architectures of these runs."""
_HOPPER = (9, 0)
_WORKSPACE, _WORKSPACE_BEFORE_HOPPER = 32 * 2**20, 8_519_680
"""Bytes of a workspace of cuBLAS (aten/src/ATen/cuda/CublasHandlePool.cpp)."""


def predict_memory(experiment: Experiment, facts: Facts, *, reserves: bool = True) -> MemoryPrediction | None:
    """None if the model cannot be inspected yet. Without `reserves` the cache is left out, to be faster."""
    sizes, model = sizes_of(experiment, facts), model_of(experiment, facts)
    if sizes is None or model is None:
        return None
    decoder = decoder_of(facts.model.config)
    on_gpu = facts.device == "cuda"
    tape = _played(sizes, model, _workspace(facts), reserves=on_gpu and reserves)
    band = band_of(facts)
    is_steady = tape.room >= _STEADY_ROOM and _is_measured(experiment, facts)
    margin = min(band, _STEADY_MARGIN) if is_steady else band
    context = context_table(sizes.stage, facts.world_size)
    return MemoryPrediction(
        gpu=_gpu(tape, sizes, model, context, margin) if on_gpu else None,
        host=host_memory(experiment, facts, sizes, _of_model_on_host(tape, model, on_gpu)),
        disk=disk_table(experiment, facts, sizes),
        band=band,
        is_generic=decoder is None or decoder.is_generic,
    )


def _of_model_on_host(tape: Tape, model: Model, on_gpu: bool) -> int:
    kept = len(model.layers) * model.checkpoint if model.is_checkpointed and model.keeps_on_host else 0
    return kept if on_gpu else tape.peak.bytes + kept


def band_of(facts: Facts) -> float:
    """The relative error of predictions for this model and device."""
    decoder = decoder_of(facts.model.config)
    if decoder is None or decoder.is_generic:
        return _GENERIC
    return _KNOWN if facts.device == "cuda" else _ON_CPU


def _is_measured(experiment: Experiment, facts: Facts) -> bool:
    """Without offload, whose copies are in streams of their own, and with batches that are all alike."""
    offload = experiment.offload
    is_on_gpu = offload.offload_optimizer.device == offload.offload_param.device == "none"
    config = facts.model.config
    is_known = config is not None and config.get("model_type") in _MEASURED
    return is_known and is_on_gpu and experiment.data.packing == "wrapped"


@lru_cache(maxsize=256)
def _played(sizes: Sizes, model: Model, workspace: int, *, reserves: bool) -> Tape:
    """Kept, because a search meets combinations that differ in nothing that is played."""
    tape = Tape(Allocator() if reserves else None)
    units = (model.embedding, *map(sum, model.layers), model.behind)
    play(tape, sizes, ModelPasses(model, Gathered(tape, sizes, units, model.is_tied), workspace))
    return tape


def _workspace(facts: Facts) -> int:
    if facts.device != "cuda":
        return 0
    is_hopper = all(gpu.compute_capability >= _HOPPER for gpu in facts.hardware.gpus)
    return _WORKSPACE if is_hopper else _WORKSPACE_BEFORE_HOPPER


def _gpu(tape: Tape, sizes: Sizes, model: Model, context: Table, margin: float) -> GpuMemory:
    beyond = max(0, tape.reserved - tape.peak.bytes)
    cache = Term(
        name="cached blocks",
        bytes=beyond,
        formula="the allocator, played with every tensor of two steps",
        source="c10/cuda/CUDACachingAllocator.cpp",
    )
    return GpuMemory(
        phase=tape.peak.phase,
        allocated=Table(terms=_terms(tape.peak, sizes, model)),
        cache=Table(terms=[cache]),
        context=context,
        margin=margin,
    )


def _terms(peak: Peak, sizes: Sizes, model: Model) -> list[Term]:
    """The largest first."""
    known = formulas(sizes, model)
    ordered = sorted(peak.terms.items(), key=lambda item: item[1], reverse=True)
    return [
        Term(name=name, bytes=size, formula=known[name].text, source=known[name].source)
        for name, size in ordered
    ]
