"""Predicts the memory that a run needs, without torch."""

import math

from zpipe.facts.decoder import decoder_of as architecture_of
from zpipe.facts.facts import Facts
from zpipe.memory.activations import default_attention, final_norm_bytes, layer_activations
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


def predict_memory(experiment: Experiment, facts: Facts) -> MemoryPrediction | None:
    """None if the model cannot be inspected yet."""
    tape = gpu_tape(experiment, facts)
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
    return MemoryPrediction(gpu=gpu, host=host, band=0.05)


def gpu_tape(experiment: Experiment, facts: Facts, *, reserves: bool = True) -> Tape | None:
    sizes, decoder = sizes_of(experiment, facts), decoder_of(experiment, facts)
    if sizes is None or decoder is None or facts.device != "cuda":
        return None
    tape = Tape(Allocator() if reserves else None)
    units = (decoder.embedding, *map(sum, decoder.layers), decoder.behind)
    passes = ModelPasses(decoder, Gathered(tape, sizes, units, decoder.is_tied), 32 * MIB)
    play(tape, sizes, passes)
    return tape


def decoder_of(experiment: Experiment, facts: Facts) -> Decoder | None:
    architecture = architecture_of(facts.model.config)
    if facts.parameter_shapes is None or architecture is None:
        return None
    element = 4 if facts.parameter_dtype == "fp32" else 2
    liger = facts.liger.is_used
    elements = {name: math.prod(shape) for name, shape in facts.parameter_shapes.items()}
    before, layers, behind = split_by_layer(elements)
    hidden, vocabulary = architecture.hidden, architecture.vocab
    return Decoder(
        tokens=facts.micro_batch * experiment.data.max_length,
        hidden=hidden,
        vocabulary=vocabulary,
        element=element,
        layer=layer_activations(
            architecture,
            attention=experiment.model.attn_implementation or default_attention(architecture),
            liger=liger,
            element_bytes=element,
            sequence=experiment.data.max_length,
            masked=experiment.data.packing != "wrapped" and facts.micro_batch > 1,
        ),
        layers=layers,
        embedding=before,
        behind=behind,
        is_tied=behind < hidden * vocabulary,
        final_norm=final_norm_bytes(architecture, liger=liger, element_bytes=element),
        is_checkpointed=experiment.train.gradient_checkpointing
        or experiment.activation_checkpointing.enabled,
        has_fused_loss=liger,
    )
