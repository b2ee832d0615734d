"""Predicts the memory that a run needs, without torch."""

import math

from zpipe.facts.facts import Facts
from zpipe.memory.activations import llama_activations
from zpipe.memory.allocator import Allocator
from zpipe.memory.gathered import Gathered
from zpipe.memory.host import host_memory
from zpipe.memory.model_passes import Decoder, ModelPasses, split_by_layer
from zpipe.memory.sizes import sizes_of
from zpipe.memory.steps import play
from zpipe.memory.tape import Tape
from zpipe.plans.memory import GpuMemory, MemoryPrediction, Table, Term
from zpipe.schema.experiment import Experiment

MIB = 2**20
BAND = 0.05
"""The relative error of a prediction."""


def predict_memory(experiment: Experiment, facts: Facts, *, reserves: bool = True) -> MemoryPrediction | None:
    """None if the model cannot be inspected yet. Without `reserves` the cache is left out, to be faster."""
    tape = gpu_tape(experiment, facts, reserves=reserves)
    if tape is None:
        return None
    peak = tape.peak
    terms = [Term(name=n, bytes=b, formula="", source="") for n, b in peak.terms.items()]
    cache = Term(name="cache", bytes=max(0, tape.reserved - peak.bytes), formula="", source="")
    gpu = GpuMemory(
        phase=peak.phase,
        allocated=Table(terms=terms),
        cache=Table(terms=[cache]),
        context=Table(),
    )
    sizes = sizes_of(experiment, facts)
    host = None if sizes is None else host_memory(experiment, facts, sizes)
    return MemoryPrediction(gpu=gpu, host=host, band=BAND)


def gpu_tape(experiment: Experiment, facts: Facts, *, reserves: bool = True) -> Tape | None:
    sizes, decoder = sizes_of(experiment, facts), decoder_of(experiment, facts)
    if sizes is None or decoder is None or facts.device != "cuda":
        return None
    tape = Tape(Allocator() if reserves else None)
    units = (
        decoder.embedding,
        *map(sum, decoder.layers),
        decoder.behind + (decoder.embedding if decoder.is_tied else 0),
    )
    passes = ModelPasses(decoder, Gathered(tape, sizes, units), 32 * MIB)
    play(tape, sizes, passes)
    return tape


def decoder_of(experiment: Experiment, facts: Facts) -> Decoder | None:
    config = facts.model.config
    if facts.parameter_shapes is None:
        return None
    element = 4 if facts.parameter_dtype == "fp32" else 2
    liger = facts.liger.is_used
    elements = {name: math.prod(shape) for name, shape in facts.parameter_shapes.items()}
    before, layers, behind = split_by_layer(elements)
    hidden = int(config["hidden_size"])
    return Decoder(
        tokens=facts.micro_batch * experiment.data.max_length,
        hidden=hidden,
        vocabulary=int(config["vocab_size"]),
        element=element,
        layer=llama_activations(config, liger=liger, element=element),
        layers=layers,
        embedding=before,
        behind=behind,
        is_tied=behind < hidden * int(config["vocab_size"]),
        final_norm=2 * element * hidden + (0 if liger else 4 * hidden),
        is_checkpointed=experiment.train.gradient_checkpointing
        or experiment.activation_checkpointing.enabled,
        has_fused_loss=liger,
    )
