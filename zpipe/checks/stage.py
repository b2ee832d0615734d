"""ZeRO: keys that only work at some stages or with certain other settings."""

from collections.abc import Iterator

from zpipe.checks import fixes
from zpipe.facts.facts import Facts
from zpipe.facts.implementation import runs_bf16_optimizer
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.stage import STAGE3_ONLY, STAGES_1_AND_2_ONLY, keys_without_effect

SINGLE_GPU_BUCKET = 200_000_000


def keys_work_at_this_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed reads many keys only at some stages and ignores them at the others."""
    stage = experiment.stage.stage
    for name in keys_without_effect(experiment.stage):
        value, (stages, fix) = getattr(experiment.stage, name), _stages_of(name, experiment)
        refused = name == "compute_grad_norm" and value is False  # zero/config.py, compute_grad_norm_valid
        yield Problem(
            f"stage.{name}",
            value,
            f"DeepSpeed {'refuses' if refused else 'ignores'} it at stage {stage}",
            f"null at stage {stage}; only used at {stages}",
            either(fix, f"stage.{name}=null"),
            ignored=not refused,
        )


def _stages_of(name: str, experiment: Experiment) -> tuple[str, str]:
    """The stages at which a key works, and the overrides that choose one of them."""
    if name in STAGE3_ONLY:
        return "stage 3", "stage=3"
    return "stages 1 and 2" if name in STAGES_1_AND_2_ONLY else "stages 1 to 3", fixes.stage_2(experiment)


def clipping_needs_the_grad_norm(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Gradients are clipped by their norm (zero/config.py, compute_grad_norm)."""
    if experiment.stage.compute_grad_norm is False and experiment.train.max_grad_norm > 0:
        yield Problem(
            "stage.compute_grad_norm",
            False,
            f"clipping at train.max_grad_norm={experiment.train.max_grad_norm} needs the gradient norm",
            "false only without clipping",
            either("train.max_grad_norm=0", "stage.compute_grad_norm=null"),
        )


def secondary_partition_divides_the_world(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """hpZ of ZeRO++ splits the ranks into equal groups."""
    size = experiment.stage.zero_hpz_partition_size
    if isinstance(size, int) and facts.world_size % size:
        divisors = [n for n in range(1, facts.world_size + 1) if facts.world_size % n == 0]
        yield Problem(
            "stage.zero_hpz_partition_size",
            size,
            f"does not divide the world size {facts.world_size}",
            ", ".join(map(str, divisors)),
            either(f"stage.zero_hpz_partition_size={divisors[-1]}"),
        )


def quantized_frozen_weights_need_fp16(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """partition_parameters.py asserts fp16 for quantized frozen weights."""
    if experiment.stage.zero_quantized_nontrainable_weights and facts.dtype != "fp16":
        yield Problem(
            "stage.zero_quantized_nontrainable_weights",
            True,
            f"needs fp16, but the precision is {facts.dtype}",
            "false with other precisions",
            either(fixes.precision(experiment, "fp16"), "stage.zero_quantized_nontrainable_weights=null"),
        )


def legacy_stage1_is_removed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed has raised for it since 0.5.9 (engine.py, _configure_zero_optimizer)."""
    if experiment.stage.legacy_stage1:
        yield Problem(
            "stage.legacy_stage1",
            True,
            "DeepSpeed has removed the old implementation of stage 1",
            "null",
            either("stage.legacy_stage1=null"),
        )


def gradients_are_contiguous_under_offload(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Stages 1 and 2 use contiguous gradients whenever the optimizer is offloaded (zero/stage_1_and_2.py)."""
    stage, offloaded = experiment.stage, experiment.offload.offload_optimizer.device != "none"
    if stage.contiguous_gradients is False and offloaded and stage.stage in (1, 2):
        key = "stage.contiguous_gradients"
        reason = f"DeepSpeed turns it on under offload at stage {stage.stage}"
        yield Problem(
            key,
            False,
            reason,
            "true or null under offload",
            either(f"{key}=null", "offload=none"),
            ignored=True,
        )


def grad_norm_is_computed_where_needed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed needs the norm under offload, and at stage 1 with bf16 and fp32 accumulation."""
    stage = experiment.stage
    if stage.compute_grad_norm is not False:
        return
    key = "stage.compute_grad_norm"
    if experiment.offload.offload_optimizer.device != "none":
        yield Problem(
            key, False, "DeepSpeed refuses it under optimizer offload", "null", either(f"{key}=null")
        )
    if runs_bf16_optimizer(experiment, facts.dtype):
        reason = "DeepSpeed refuses it at stage 1 with bf16 and fp32 accumulation"
        yield Problem(key, False, reason, "null", either(f"{key}=null", "stage=2"))


def zeropp_needs_several_ranks(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A single rank communicates nothing that could be quantized."""
    stage = experiment.stage
    if facts.world_size > 1:
        return
    for name in ("zero_quantized_weights", "zero_quantized_gradients"):
        if getattr(stage, name):
            key = f"stage.{name}"
            yield Problem(
                key,
                True,
                "a single process does not communicate",
                "null with one process",
                either(f"zeropp=none {key}=null"),
            )


def quantization_needs_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed's quantization kernels need CUDA (op_builder/quantizer.py has no CPU build)."""
    names = ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights")
    for name in names:
        if facts.device == "cpu" and getattr(experiment.stage, name):
            key = f"stage.{name}"
            yield Problem(key, True, "needs a CUDA GPU", "null on a CPU", either(f"zeropp=none {key}=null"))


def quantized_weights_exclude_autocast(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in torch_autocast.py."""
    if experiment.stage.zero_quantized_weights and experiment.precision.torch_autocast.enabled:
        key = "stage.zero_quantized_weights"
        fix = either(f"zeropp=none {key}=null", fixes.autocast_off(experiment))
        yield Problem(key, True, "DeepSpeed refuses it with torch_autocast", "null with torch_autocast", fix)


def zenflow_is_unusable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Observed with deepspeed 0.19.8 and transformers 5.23 on a CPU."""
    for name, value in experiment.stage.zenflow.given().items():
        key = f"stage.zenflow.{name}"
        yield Problem(key, value, ZENFLOW, "null", either(f"{key}=null"))


ZENFLOW = (
    "ZenFlow does not work under transformers' Trainer: stage 3 raises an IndexError in the first forward "
    "pass, and stage 2 gives a different loss even before the first update"
)


def leaf_modules_need_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only stage 3 fetches parameters by module."""
    for name, value in experiment.stage.leaf_module.given().items():
        if experiment.stage.stage < 3:
            key = f"stage.leaf_module.{name}"
            reason = f"only used at stage 3, but this is stage {experiment.stage.stage}"
            yield Problem(key, value, reason, "null", either("stage=3", f"{key}=null"), ignored=True)


def final_model_needs_gathered_weights(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without gathering, stage 3 saves a model folder without weights."""
    gathered = experiment.stage.stage3_gather_16bit_weights_on_model_save
    if experiment.stage.stage == 3 and not gathered and experiment.checkpoint.save_final_model:
        yield Problem(
            "stage.stage3_gather_16bit_weights_on_model_save",
            gathered,
            "at stage 3 the final model would be saved without its weights",
            "true while checkpoint.save_final_model is true",
            either(
                "stage.stage3_gather_16bit_weights_on_model_save=true", "checkpoint.save_final_model=false"
            ),
        )


def sequential_allgather_excludes_prefetching(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed then prefetches with a bucket of 1 (engine.py), which parameters on NVMe do not allow."""
    stage, key = experiment.stage, "stage.stage3_allgather_sequential"
    if stage.stage != 3 or not stage.stage3_allgather_sequential:
        return
    if experiment.offload.offload_param.device == "nvme":
        reason = (
            "it prefetches parameters, and with parameters on NVMe that can exhaust any number of buffers"
        )
        yield Problem(key, True, reason, "null", either(f"{key}=null"))
    elif stage.stage3_prefetch_bucket_size not in (1, "auto", None):
        bucket = "stage.stage3_prefetch_bucket_size"
        reason = f"DeepSpeed sets it to 1 with {key}=true"
        fix = either(f"{bucket}=1", f"{key}=null")
        yield Problem(bucket, stage.stage3_prefetch_bucket_size, reason, "1 or auto", fix, ignored=True)


def warn_about_bf16_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """It reduces all gradients in one buffer after the backward pass, without buckets (bf16_optimizer.py)."""
    if runs_bf16_optimizer(experiment, facts.dtype):
        text = (
            "stage 1 with bf16 and fp32 accumulation runs DeepSpeed's BF16_Optimizer, which reads only "
            "allgather_bucket_size of the keys under stage"
        )
        yield Notice(level="warning", key="precision.data_types.grad_accum_dtype", text=text)


def advise_smaller_buckets_on_one_gpu(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Recommended for a single GPU by the DeepSpeed guide."""
    if facts.world_size > 1 or facts.device == "cpu" or experiment.stage.stage not in (1, 2):
        return
    for name in ("reduce_bucket_size", "allgather_bucket_size"):
        size = getattr(experiment.stage, name)
        if isinstance(size, int) and size > SINGLE_GPU_BUCKET:
            yield Notice(
                level="advice",
                key=f"stage.{name}",
                text=f"{size} elements have no benefit on one GPU; stage.{name}=2e8 saves memory",
            )


def advise_round_robin(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """Under offload the ranks copy gradients to the host in parallel, which helps most with accumulation."""
    stage, offloaded = experiment.stage, experiment.offload.offload_optimizer.device == "cpu"
    if stage.stage in (1, 2) and offloaded and facts.world_size > 1 and stage.round_robin_gradients is None:
        text = "stage.round_robin_gradients=true lets the ranks copy gradients to the host in parallel"
        yield Notice(level="advice", key="stage.round_robin_gradients", text=text)


ERRORS = (
    keys_work_at_this_stage,
    clipping_needs_the_grad_norm,
    secondary_partition_divides_the_world,
    quantized_frozen_weights_need_fp16,
    final_model_needs_gathered_weights,
    legacy_stage1_is_removed,
    gradients_are_contiguous_under_offload,
    grad_norm_is_computed_where_needed,
    zeropp_needs_several_ranks,
    quantization_needs_a_gpu,
    quantized_weights_exclude_autocast,
    zenflow_is_unusable,
    leaf_modules_need_stage_3,
    sequential_allgather_excludes_prefetching,
)
NOTICES = (warn_about_bf16_optimizer, advise_smaller_buckets_on_one_gpu, advise_round_robin)
