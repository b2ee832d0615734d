"""The allocations of a run on the GPU: start of the engine, then steps of forward, backward and update.

Sources: deepspeed/runtime/zero/stage_1_and_2.py and stage3.py, zpipe/train/stage_0.py,
transformers/loss/loss_utils.py, liger_kernel/ops/fused_linear_cross_entropy.py. The order was read off traces
of PyTorch's allocator.
"""

from zpipe.memory.gradients import GRADIENTS, UPDATE, Gradients
from zpipe.memory.model_passes import ModelPasses
from zpipe.memory.sizes import Sizes
from zpipe.memory.tape import UPDATE_PHASE, Tape

PARAMETERS, MASTERS = "parameters", "master weights"
SECONDARY = "second copy of the parameters"
_STEPS = 2
"""All later ones repeat the second."""


def play(tape: Tape, sizes: Sizes, passes: ModelPasses) -> None:
    """Plays a run from its start to the second step."""
    _start(tape, sizes)
    tape.empty_cache()
    for step in range(1, _STEPS + 1):
        gradients = Gradients(tape, sizes)
        for _ in range(sizes.accumulation):
            passes.forward(tape)
            passes.backward(tape, gradients)
        if step == 1:
            tape.empty_cache()
        tape.begin(UPDATE_PHASE)
        passes.before_update(tape)
        gradients.update(has_states=step > 1)
        if step == 1:
            tape.empty_cache()


def _start(tape: Tape, sizes: Sizes) -> None:
    tape.begin("start of the engine")
    match sizes.stage:
        case 0:
            _start_without_zero(tape, sizes)
        case 3:
            _start_stage_3(tape, sizes)
        case _:
            _start_stages_1_and_2(tape, sizes)


def _flatten(tape: Tape, sizes: Sizes) -> None:
    """The parameters as they were loaded, and their flat copy."""
    tape.take("loaded", sizes.element * sizes.total, PARAMETERS)
    tape.take("parameters", sizes.element * sizes.total, PARAMETERS)
    tape.drop("loaded")


def _start_without_zero(tape: Tape, sizes: Sizes) -> None:
    if not sizes.master:
        tape.take("parameters", sizes.element * sizes.total, PARAMETERS)
        return
    _flatten(tape, sizes)
    tape.take("masters", sizes.master * sizes.total, MASTERS)


def _start_stages_1_and_2(tape: Tape, sizes: Sizes) -> None:
    _flatten(tape, sizes)
    tape.take("clone", sizes.element * sizes.partition, MASTERS)
    if sizes.is_offloaded:
        tape.drop("clone")
        tape.take("staging", sizes.element * sizes.largest, "staging buffer of offloaded gradients")
        return
    tape.take("masters", sizes.master * sizes.partition, MASTERS)
    tape.drop("clone")
    tape.pulse(sizes.master * sizes.partition, UPDATE)


def _start_stage_3(tape: Tape, sizes: Sizes) -> None:
    """The parameters are moved through host memory into a flat buffer (zero/utils.py: defragment)."""
    if sizes.parameter_device == "none":
        tape.pulse(sizes.element * sizes.partition, PARAMETERS)
        tape.take("parameters", sizes.element * sizes.partition, PARAMETERS)
    for index, elements in enumerate(sizes.sub_groups_on_gpu):
        tape.take(f"masters {index}", sizes.master * elements, MASTERS)
        tape.pulse(sizes.master * elements, MASTERS)
    if sizes.is_offloaded:
        tape.take("gradients on the GPU", sizes.master * sum(sizes.sub_groups_on_gpu), GRADIENTS)
    if sizes.zero.secondary > 1:
        tape.take("secondary", sizes.element * sizes.total / sizes.zero.secondary, SECONDARY)
    if sizes.ranks > 1:
        tape.take("persistent", sizes.element * sizes.persistent, "persistent parameters")
    tape.take("bucket", sizes.element * sizes.zero.reduce_bucket, "reduce bucket")
    if not sizes.is_offloaded:
        tape.take("gradient partitions", sizes.gradient * sizes.partition, GRADIENTS)
