"""Offload: stage, device and its own keys."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment


def nvme_needs_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Below stage 3 DeepSpeed silently replaces nvme with cpu and never uses the path."""
    device, stage = experiment.offload.offload_optimizer.device, experiment.stage.stage
    if device == "nvme" and stage < 3:
        yield Problem(
            "offload.offload_optimizer.device",
            device,
            f"at stage {stage} DeepSpeed would silently offload to host memory instead",
            "nvme at stage 3; cpu at stages 1 to 3; none",
            either("stage=3", "offload=cpu_optimizer") if stage else either("stage=3", "offload=none"),
        )


def parameter_offload_needs_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Below stage 3 every rank keeps all parameters, and offload_param is ignored."""
    device, stage = experiment.offload.offload_param.device, experiment.stage.stage
    if device != "none" and stage < 3:
        key = "offload.offload_param.device"
        alone = [] if experiment.offload.offload_optimizer.device == "nvme" else [f"{key}=none"]
        yield Problem(
            key,
            device,
            f"DeepSpeed ignores parameter offload at stage {stage}",
            "none below stage 3",
            either("stage=3", "offload=cpu_optimizer" if stage else "offload=none", *alone),
            ignored=True,
        )


def optimizer_offload_needs_partitioning(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Stage 0 keeps the parameters on the device, but builds the CPU optimizer (engine.py)."""
    device = experiment.offload.offload_optimizer.device
    if device == "cpu" and experiment.stage.stage == 0:
        yield Problem(
            "offload.offload_optimizer.device",
            device,
            "at stage 0 nothing is offloaded, and DeepSpeed's CPU optimizers fail with parameters on a GPU",
            "none at stage 0; cpu at stages 1 to 3",
            either("stage=2", "offload=none"),
        )


def ratio_and_super_offload_need_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Below stage 3 ratio raises and super_offload is ignored; super_offload also needs CUDA."""
    block, stage = experiment.offload.offload_optimizer, experiment.stage.stage
    if stage < 3 and block.ratio is not None and block.ratio < 1:
        yield _needs_stage_3("ratio", block.ratio, stage)
    if stage < 3 and block.super_offload:
        yield _needs_stage_3("super_offload", True, stage)
    if block.super_offload and facts.device == "cpu":
        yield Problem(
            "offload.offload_optimizer.super_offload",
            True,
            "needs a CUDA GPU",
            "false",
            either("offload.offload_optimizer.super_offload=null"),
        )


def settings_match_the_device(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a device that is not in use would be ignored."""
    offload = experiment.offload
    for name, block in (
        ("offload_optimizer", offload.offload_optimizer),
        ("offload_param", offload.offload_param),
    ):
        yield from _settings_of_other_devices(f"offload.{name}", block, block.device)
    devices = {offload.offload_optimizer.device, offload.offload_param.device}
    if "nvme" not in devices:
        given: dict[str, object] = {"offload.nvme_path": offload.nvme_path}
        given |= {f"offload.aio.{key}": value for key, value in offload.aio.given().items()}
        for key, value in given.items():
            if value is not None:
                yield Problem(
                    key,
                    value,
                    "only used with NVMe offload",
                    "null",
                    either("stage=3 offload=nvme", f"{key}=null"),
                    ignored=True,
                )
    if devices == {"none"} and offload.pin_memory is not None:
        key = "offload.pin_memory"
        yield Problem(
            key,
            offload.pin_memory,
            "nothing is offloaded",
            "null",
            either("stage=3 offload=cpu", f"{key}=null"),
            ignored=True,
        )


def super_offload_needs_cpu_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """SuperOffload runs Adam on the CPU (superoffload/superoffload_stage3.py)."""
    block = experiment.offload.offload_optimizer
    if block.cpuadam_cores_perc is not None and not block.super_offload:
        key = "offload.offload_optimizer.cpuadam_cores_perc"
        reason = "only used with offload.offload_optimizer.super_offload=true"
        fix = either(f"{key}=null")
        yield Problem(key, block.cpuadam_cores_perc, reason, "null", fix, ignored=True)
    if block.super_offload and block.device != "cpu":
        key = "offload.offload_optimizer.super_offload"
        reason = f"keeps states in host memory, but the device is {block.device}"
        yield Problem(
            key, True, reason, "true with device cpu", either("offload=cpu_optimizer", f"{key}=null")
        )
    if block.super_offload and experiment.optimizer.type not in ("Adam", "AdamW"):
        key = "offload.offload_optimizer.super_offload"
        yield Problem(
            key,
            True,
            "only works with Adam",
            "true with Adam, AdamW",
            either("optimizer=adamw", f"{key}=null"),
        )


def partial_offload_needs_adamw(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The hybrid optimizer combines DeepSpeedCPUAdam with PyTorch's AdamW (zero/stage3.py)."""
    ratio = experiment.offload.offload_optimizer.ratio
    if ratio is None or ratio == 1:
        return
    if experiment.optimizer.type != "AdamW":
        key = "offload.offload_optimizer.ratio"
        host = experiment.optimizer.type
        reason = f"AdamW would update the parameters on the device, and {host} those on the host"
        yield Problem(key, ratio, reason, "null, or 1", either("optimizer=adamw", f"{key}=null"))


def gpudirect_storage_needs_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """GPUDirect Storage transfers data directly between the drive and the GPU."""
    if experiment.offload.aio.use_gds and facts.device == "cpu":
        yield Problem(
            "offload.aio.use_gds",
            True,
            "needs a CUDA GPU",
            "null on a CPU",
            either("offload.aio.use_gds=null"),
        )


NVME_ONLY = ("buffer_count", "buffer_size", "max_in_cpu", "pipeline_read", "pipeline_write", "fast_init")


def _settings_of_other_devices(prefix: str, block: Group, device: str) -> Iterator[Problem]:
    for name, value in block.given(without={"device"}).items():
        if device == "none" or (name in NVME_ONLY and device != "nvme"):
            needed = "nvme" if name in NVME_ONLY else "cpu or nvme"
            yield Problem(
                f"{prefix}.{name}",
                value,
                f"only used with {prefix}.device={needed}, not {device}",
                "null",
                either(f"stage=3 offload={'nvme' if name in NVME_ONLY else 'cpu'}", f"{prefix}.{name}=null"),
                ignored=True,
            )


def _needs_stage_3(name: str, value: object, stage: int) -> Problem:
    key = f"offload.offload_optimizer.{name}"
    return Problem(
        key,
        value,
        f"only works at stage 3, but this is stage {stage}",
        "null",
        either("stage=3", f"{key}=null"),
    )


def warn_about_missing_nvme_path(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Without a path, swap files are written to the disk of the run folder, which is rarely an NVMe drive."""
    offload = experiment.offload
    if offload.nvme_path is None and "nvme" in (
        offload.offload_optimizer.device,
        offload.offload_param.device,
    ):
        yield Notice(
            level="warning",
            key="offload.nvme_path",
            text="not set, so swap files are written to the run folder; a folder on an NVMe drive is faster",
        )


ERRORS = (
    nvme_needs_stage_3,
    parameter_offload_needs_stage_3,
    optimizer_offload_needs_partitioning,
    ratio_and_super_offload_need_stage_3,
    settings_match_the_device,
    super_offload_needs_cpu_adam,
    partial_offload_needs_adamw,
    gpudirect_storage_needs_a_gpu,
)
NOTICES = (warn_about_missing_nvme_path,)
