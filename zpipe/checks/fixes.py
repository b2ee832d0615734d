"""Overrides that several rules propose, with whatever else this experiment needs for them to be accepted."""

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


def autocast_off(experiment: Experiment) -> str:
    """Removes every key of the torch_autocast block that is set."""
    given = experiment.precision.torch_autocast.given()
    return " ".join(f"precision.torch_autocast.{name}=null" for name in given)
