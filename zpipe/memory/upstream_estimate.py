"""DeepSpeed's own estimates of the memory for model states, without torch, for comparison with ours.

They are those of DeepSpeed 0.19.8: runtime/zero/stage_1_and_2.py, estimate_zero2_model_states_mem_needs, and
runtime/zero/stage3.py, estimate_zero3_model_states_mem_needs. They know neither stages 0 and 1 nor NVMe, and
leave out activations, logits, buffers and the CUDA context.
"""

from typing import NamedTuple

from zpipe.plans.plan import Plan
from zpipe.schema.offload import Offload

BUFFER_FACTOR = 1.5
"""DeepSpeed's allowance for buffers on the host."""


class Estimate(NamedTuple):
    """Bytes, as DeepSpeed prints them."""

    host: int
    """Of one node."""
    gpu: int
    """Of one GPU."""


def zero2_estimate(
    parameters: int,
    gpus_per_node: int = 1,
    nodes: int = 1,
    *,
    cpu_offload: bool = True,
    buffer_factor: float = BUFFER_FACTOR,
) -> Estimate:
    """Stage 2, for a model with this many parameters."""
    gpus = nodes * gpus_per_node
    if cpu_offload:
        return Estimate(int(parameters * max(4 * gpus, 16) * buffer_factor), 2 * parameters)
    gpu = 2 * parameters + int(18 * parameters / gpus)
    return Estimate(int(parameters * 4 * gpus_per_node * buffer_factor), gpu)


def zero3_estimate(
    parameters: int,
    largest_module: int,
    gpus_per_node: int = 1,
    nodes: int = 1,
    *,
    cpu_offload: bool = True,
    cpu_offload_params: bool = True,
    zero_init: bool = True,
    buffer_factor: float = BUFFER_FACTOR,
) -> Estimate:
    """Stage 3. `largest_module` counts the parameters that one module has itself.

    Without `cpu_offload`, DeepSpeed does not read `cpu_offload_params`.
    """
    gpus, share = nodes * gpus_per_node, 1 / nodes
    gathered = 4 * largest_module
    if not cpu_offload:
        initialized = largest_module if zero_init else parameters
        host = initialized * 4 * gpus_per_node * buffer_factor
        return Estimate(int(host), gathered + int(18 * parameters / gpus))
    per_parameter = 18 if cpu_offload_params else 16
    if zero_init:
        host = parameters * per_parameter * share * buffer_factor
    else:
        host = parameters * max(4 * gpus_per_node, per_parameter * share) * buffer_factor
    gpu = gathered if cpu_offload_params else gathered + int(2 * parameters / gpus)
    return Estimate(int(host), gpu)


def upstream_estimate(plan: Plan) -> Estimate | None:
    """DeepSpeed's estimate for the stage and the offload of a plan; None if it has none for them."""
    parameters, largest = plan.model.parameters, plan.model.largest_module
    stage, offload = plan.experiment.stage.stage, plan.experiment.offload
    if parameters is None or _swaps(offload):
        return None
    processes, nodes = plan.launch.nproc_per_node, plan.launch.nodes
    on_host = offload.offload_optimizer.device == "cpu"
    if stage == 2:
        return zero2_estimate(parameters, processes, nodes, cpu_offload=on_host)
    params_on_host = offload.offload_param.device == "cpu"
    if stage != 3 or largest is None or (params_on_host and not on_host):
        return None
    return zero3_estimate(
        parameters, largest, processes, nodes, cpu_offload=on_host, cpu_offload_params=params_on_host
    )


def _swaps(offload: Offload) -> bool:
    return "nvme" in (offload.offload_optimizer.device, offload.offload_param.device)
