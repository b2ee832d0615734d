"""Offload against the stage, the device and itself."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment


def nvme_needs_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Below stage 3 DeepSpeed turns nvme into cpu without a word and never touches the path."""
    device, stage = experiment.offload.offload_optimizer.device, experiment.stage.stage
    if device == "nvme" and stage < 3:
        yield Problem(
            "offload.offload_optimizer.device",
            device,
            f"at stage {stage} DeepSpeed would offload to host memory instead, in silence",
            "nvme at stage 3; cpu at stages 1 to 3; none",
            "stage=3, or offload=cpu_optimizer" if stage else "stage=3, or offload=none",
        )


def parameters_need_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Below stage 3 every rank keeps all parameters; offload_param is ignored."""
    device, stage = experiment.offload.offload_param.device, experiment.stage.stage
    if device != "none" and stage < 3:
        yield Problem(
            "offload.offload_param.device",
            device,
            f"DeepSpeed ignores parameter offload at stage {stage}",
            "none below stage 3",
            "stage=3, or offload=cpu_optimizer" if stage else "stage=3, or offload=none",
        )


def optimizer_offload_needs_a_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Stage 0 accepts offload_optimizer and does nothing with it."""
    device = experiment.offload.offload_optimizer.device
    if device == "cpu" and experiment.stage.stage == 0:
        yield Problem(
            "offload.offload_optimizer.device",
            device,
            "DeepSpeed ignores it at stage 0",
            "cpu at stages 1 to 3",
            "stage=2, or offload=none",
        )


def stage_3_only_keys(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """ratio raises below stage 3, super_offload is dropped; super_offload also needs CUDA."""
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
            "offload.offload_optimizer.super_offload=null",
        )


def settings_belong_to_a_device(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a device that is not chosen would be ignored."""
    offload = experiment.offload
    for name, block in (
        ("offload_optimizer", offload.offload_optimizer),
        ("offload_param", offload.offload_param),
    ):
        yield from _settings_of_other_devices(f"offload.{name}", block, block.device)
    devices = {offload.offload_optimizer.device, offload.offload_param.device}
    if "nvme" not in devices:
        given: dict[str, object] = {"offload.nvme_path": offload.nvme_path}
        given |= {f"offload.aio.{key}": value for key, value in offload.aio.model_dump().items()}
        for key, value in given.items():
            if value is not None:
                yield Problem(key, value, "acts under nvme offload only", "null", "stage=3 offload=nvme")
    if devices == {"none"} and offload.pin_memory is not None:
        yield Problem(
            "offload.pin_memory", offload.pin_memory, "nothing is offloaded", "null", "stage=3 offload=cpu"
        )


def super_offload_has_what_it_needs(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Host Adam beside the GPU (superoffload/superoffload_stage3.py), and its share of the cores."""
    block = experiment.offload.offload_optimizer
    if block.cpuadam_cores_perc is not None and not block.super_offload:
        key = "offload.offload_optimizer.cpuadam_cores_perc"
        reason = "acts with super_offload=true only"
        fix = f"{key}=null"
        yield Problem(key, block.cpuadam_cores_perc, reason, "null", fix)
    if block.super_offload and block.device != "cpu":
        key = "offload.offload_optimizer.super_offload"
        reason = f"keeps states in host memory, and the device is {block.device}"
        yield Problem(key, True, reason, "true with device cpu", f"offload=cpu_optimizer, or {key}=null")
    if block.super_offload and experiment.optimizer.type not in ("Adam", "AdamW"):
        key = "offload.offload_optimizer.super_offload"
        yield Problem(
            key, True, "runs with Adam only", "true with Adam, AdamW", f"optimizer=adamw, or {key}=null"
        )


def partial_offload_is_adams(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Hybrid Optimizer Only Supports DeepSpeedCPUAdam; its other half is a torch AdamW (zero/stage3.py)."""
    ratio = experiment.offload.offload_optimizer.ratio
    if ratio is None or ratio == 1:
        return
    if experiment.optimizer.type != "AdamW":
        key = "offload.offload_optimizer.ratio"
        reason = f"the share on the device is updated by AdamW, the rest by {experiment.optimizer.type}"
        yield Problem(key, ratio, reason, "null, or 1", f"optimizer=adamw, or {key}=null")


def direct_storage_needs_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """GPUDirect Storage moves bytes between the drive and the GPU."""
    if experiment.offload.aio.use_gds and facts.device == "cpu":
        yield Problem(
            "offload.aio.use_gds", True, "needs a CUDA GPU", "null on a CPU", "offload.aio.use_gds=null"
        )


NVME_ONLY = ("buffer_count", "buffer_size", "max_in_cpu", "pipeline_read", "pipeline_write", "fast_init")


def _settings_of_other_devices(prefix: str, block: Group, device: str) -> Iterator[Problem]:
    for name, value in block.model_dump(exclude={"device"}, exclude_none=True).items():
        if device == "none" or (name in NVME_ONLY and device != "nvme"):
            wanted = "nvme" if name in NVME_ONLY else "cpu or nvme"
            yield Problem(
                f"{prefix}.{name}",
                value,
                f"acts with device {wanted} only, and {prefix}.device is {device}",
                "null",
                f"stage=3 offload={'nvme' if name in NVME_ONLY else 'cpu'}, or {prefix}.{name}=null",
            )


def _needs_stage_3(name: str, value: object, stage: int) -> Problem:
    key = f"offload.offload_optimizer.{name}"
    return Problem(
        key, value, f"acts at stage 3, and this is stage {stage}", "null", f"stage=3, or {key}=null"
    )


def say_where_swap_files_go(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Without a path, swap files go to the disk of the run folder, which is rarely the NVMe device."""
    offload = experiment.offload
    if offload.nvme_path is None and "nvme" in (
        offload.offload_optimizer.device,
        offload.offload_param.device,
    ):
        yield Notice(
            level="warning",
            key="offload.nvme_path",
            text="not given: swap files go into the run folder; name the NVMe device's folder for speed",
        )


ERRORS = (
    nvme_needs_stage_3,
    parameters_need_stage_3,
    optimizer_offload_needs_a_stage,
    stage_3_only_keys,
    settings_belong_to_a_device,
    super_offload_has_what_it_needs,
    partial_offload_is_adams,
    direct_storage_needs_a_gpu,
)
NOTICES = (say_where_swap_files_go,)
