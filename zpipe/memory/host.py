"""Host memory of the ranks of one node, at its peak.

Sources: deepspeed/runtime/zero/stage_1_and_2.py and stage3.py; at/core/CachingHostAllocator.h for the
rounding of pinned memory. Each term was verified with runs, whose resident memory the sum meets.
"""

from zpipe.facts.decoder import decoder_of
from zpipe.facts.facts import Facts
from zpipe.memory.needs import pinned_bytes
from zpipe.memory.optimizer_states import states_per_parameter
from zpipe.memory.sizes import Sizes
from zpipe.plans.memory import HostMemory, Table, Term
from zpipe.schema.experiment import Experiment

MIB = 2**20
_LIBRARIES_ON_CUDA, _LIBRARIES_ON_CPU = 1270 * MIB, 700 * MIB
"""Python, torch, transformers, DeepSpeed and the CUDA runtime, once the model has been created."""
FILES_OF_LIBRARIES = 330 * MIB
"""Pages of shared objects. A forked process does not have them: whole runs had 0.3 GiB more than forks."""
_TRAINING_ON_CUDA = 750 * MIB
"""Kernels that are loaded by the first steps, the data and the Trainer."""
_STAGE_1_AND_2, _STAGE_3 = "stage_1_and_2.py: __init__", "stage3.py: _create_fp32_partitions"


def host_memory(experiment: Experiment, facts: Facts, sizes: Sizes, model_on_host: int = 0) -> HostMemory:
    """`model_on_host` is what the passes keep there: on a machine without GPU everything, in bytes."""
    if facts.device == "cpu":
        libraries = _term("libraries", _LIBRARIES_ON_CPU, "Python, torch, DeepSpeed", "measured")
        model = _term("model and training", model_on_host, "as on a GPU", "zpipe/memory/steps.py")
        terms = [libraries, _files(), model, _freed(sizes), *_offloaded(experiment, facts, sizes)]
        table = Table(terms=[each for each in terms if each.bytes])
        return HostMemory(rank=table, phase="training", ranks=facts.nproc_per_node)
    terms = [
        _term("libraries", _LIBRARIES_ON_CUDA, "Python, torch, DeepSpeed, CUDA", "measured"),
        _files(),
        _term("training", _TRAINING_ON_CUDA, "kernels, data, Trainer", "measured"),
        _term("checkpointed inputs", model_on_host, "of all layers", "checkpointing.py: cpu_checkpointing"),
        _autotuning(experiment, facts, sizes),
        *_offloaded(experiment, facts, sizes),
    ]
    steady = Table(terms=[each for each in terms if each.bytes])
    starting = Table(terms=[*terms[:2], *_starting(sizes)])
    phase, table = ("training", steady) if steady.total >= starting.total else ("start", starting)
    return HostMemory(rank=table, phase=phase, ranks=facts.nproc_per_node)


def _files() -> Term:
    return _term("files of libraries", FILES_OF_LIBRARIES, "pages of shared objects", "measured")


def _freed(sizes: Sizes) -> Term:
    """Of gradients and their copies in 16 bits, as long as they are smaller than what malloc maps singly."""
    each = 0 if sizes.element == sizes.master else 4 if sizes.stage == 3 else 2
    return _term(
        "freed memory that malloc keeps", each * sizes.total, f"{each} B x {sizes.total:,}", "measured"
    )


def _autotuning(experiment: Experiment, facts: Facts, sizes: Sizes) -> Term:
    """The first compilation keeps a copy of the largest tensor that a kernel overwrites while it is timed.

    PyTorch's cache of kernels spares it a second time.
    """
    decoder = decoder_of(facts.model.config) if experiment.train.is_compiled else None
    elements = facts.micro_batch * experiment.data.max_length * (decoder.intermediate if decoder else 0)
    source = "_inductor/runtime/triton_heuristics.py"
    return _tensor("copies of the first compilation", sizes.element, elements, source, pin=True)


def _starting(sizes: Sizes) -> list[Term]:
    """At stage 3 the partitions pass through host memory."""
    if sizes.stage != 3 or sizes.parameter_device != "none":
        return []
    bytes_ = sizes.element * sizes.partition
    formula = f"{sizes.element} B x {sizes.partition:,}"
    return [_term("parameters on their way", bytes_, formula, "zero/utils.py: defragment")]


def _offloaded(experiment: Experiment, facts: Facts, sizes: Sizes) -> list[Term]:
    if not sizes.is_offloaded:
        return []
    if sizes.optimizer_device == "nvme":
        return _swapped(experiment, facts, sizes)
    return _stage_3(experiment, sizes) if sizes.stage == 3 else _stages_1_and_2(experiment, sizes)


def _stages_1_and_2(experiment: Experiment, sizes: Sizes) -> list[Term]:
    part, pin = sizes.partition, sizes.is_pinned
    return [
        _tensor("master weights", sizes.master, part, _STAGE_1_AND_2, pin),
        _tensor("gradients", sizes.master, part, _STAGE_1_AND_2, pin),
        _tensor("updated parameters", sizes.element, part, _STAGE_1_AND_2, pin),
        _tensor("staging buffer", sizes.element, sizes.largest, _STAGE_1_AND_2, pin),
        *_states(experiment, sizes, part),
    ]


def _stage_3(experiment: Experiment, sizes: Sizes) -> list[Term]:
    on_gpu, pin = len(sizes.sub_groups_on_gpu), sizes.is_pinned
    groups = sizes.sub_groups[on_gpu:]
    elements = sum(groups)
    fp32 = sum(_pinned(sizes.master * each, pin) for each in groups)
    source = "stage3.py: initialize_optimizer_states"
    terms = [
        _tensor("master weights", sizes.master, elements, _STAGE_3, False),
        _term("gradients of the update", fp32, f"{sizes.master} B x {elements:,}{_rounded(pin)}", source),
        _tensor("gradients", sizes.gradient, sizes.partition, "stage3.py: _setup_for_real_optimizer", pin),
        *_states(experiment, sizes, elements),
    ]
    if sizes.parameter_device == "cpu":
        return [*terms, *_parameters(sizes)]
    updated = max(groups, default=0)
    terms.append(_tensor("updated parameters", sizes.element, updated, "stage3.py: _optimizer_step", False))
    if on_gpu:
        largest = max(sizes.sub_groups_on_gpu)
        terms.append(_tensor("gradients on their way to the GPU", sizes.master, largest, source, pin))
    return terms


def _parameters(sizes: Sizes) -> list[Term]:
    """The flat partitions, and the pinned blocks of each parameter from before, which PyTorch keeps."""
    pin = sizes.is_pinned
    before = sum(_pinned(sizes.element * -(-each // sizes.ranks), pin) for each in sizes.parameters)
    before += _pinned(sizes.element * -(-sizes.largest // sizes.ranks), pin)
    source = "stage3.py: _create_param_groups_fp16_flat_cpu_memory"
    created = f"{sizes.element} B x {sizes.partition:,}, each parameter{_rounded(pin)}"
    return [
        _tensor("parameters", sizes.element, sizes.partition, source, pin),
        _term("parameters as created", before if pin else 0, created, "partition_parameters.py: Init"),
    ]


def _states(experiment: Experiment, sizes: Sizes, elements: int) -> list[Term]:
    count = states_per_parameter(experiment.optimizer) or 0
    formula = f"{sizes.state} B x {elements:,}, {count} states"
    return [_term("optimizer states", sizes.state * elements, formula, "ops/adam/cpu_adam.py")]


def _swapped(experiment: Experiment, facts: Facts, sizes: Sizes) -> list[Term]:
    buffers = (pinned_bytes(experiment, facts) or 0) - sizes.gradient * sizes.partition
    source = "stage3.py: _setup_for_real_optimizer"
    return [
        _tensor("gradients", sizes.gradient, sizes.partition, source, sizes.is_pinned),
        _term("swap buffers", max(0, buffers), "offload buffers of parameters and states", "swap_tensor"),
    ]


def _tensor(name: str, bytes_per_element: int, elements: int, source: str, pin: bool) -> Term:
    formula = f"{bytes_per_element} B x {elements:,}{_rounded(pin)}"
    return _term(name, _pinned(bytes_per_element * elements, pin), formula, source)


def _pinned(size: int, pin: bool) -> int:
    """PyTorch rounds pinned memory up to a power of two."""
    return 1 << (size - 1).bit_length() if pin and size else size


def _rounded(pin: bool) -> str:
    return ", pinned: rounded up to a power of two" if pin else ""


def _term(name: str, size: int, formula: str, source: str) -> Term:
    return Term(name=name, bytes=size, formula=formula, source=source)
