"""Overrides that several rules propose, with whatever else this experiment needs for them to be accepted."""

from zpipe.facts.facts import BF16_CAPABILITY, Facts
from zpipe.schema.experiment import Experiment


def stage_2(experiment: Experiment) -> str:
    """Stage 2, and offload that works there."""
    offload = experiment.offload
    needs_stage_3 = offload.offload_param.device != "none" or offload.offload_optimizer.device == "nvme"
    return "stage=2 offload=cpu_optimizer" if needs_stage_3 else "stage=2"


def cpu_optimizer(experiment: Experiment) -> str:
    """Offload of the optimizer, and a stage at which it works."""
    return "offload=cpu_optimizer" if experiment.stage.stage else "stage=2 offload=cpu_optimizer"


def precision(experiment: Experiment, dtype: str) -> str:
    """The precision, and a stage at which it works."""
    needs_zero = dtype == "fp16" and experiment.stage.stage == 0
    return f"stage=1 precision={dtype}" if needs_zero else f"precision={dtype}"


def supports_bf16(facts: Facts) -> bool:
    """Whether all devices of the run do."""
    capabilities = [gpu.compute_capability for gpu in facts.hardware.gpus]
    return facts.device != "cuda" or all(each >= BF16_CAPABILITY for each in capabilities)


def half_precision(experiment: Experiment, facts: Facts) -> str:
    """16 bits that the device supports."""
    return precision(experiment, "bf16" if supports_bf16(facts) else "fp16")


def precisions(experiment: Experiment, facts: Facts, dtype: str) -> list[str]:
    """The precision; none if the device does not support it."""
    is_supported = dtype != "bf16" or supports_bf16(facts)
    return [precision(experiment, dtype)] if is_supported else []


def autocast_off(experiment: Experiment) -> str:
    """Removes every key of the torch_autocast block that is set."""
    given = experiment.precision.torch_autocast.given()
    return " ".join(f"precision.torch_autocast.{name}=null" for name in given)
