"""ZeRO stage against everything that acts at some stages only."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import runs_bf16_optimizer
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment
from zpipe.schema.stage import keys_without_effect

SINGLE_GPU_BUCKET = 200_000_000


def keys_act_at_this_stage(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed reads many keys at some stages and ignores them at the others."""
    stage = experiment.stage.stage
    for name in keys_without_effect(experiment.stage):
        stages = "stage 3" if stage in (1, 2) else "stages 1 and 2" if stage == 3 else "stages 1 to 3"
        better = 3 if stage in (1, 2) else 2
        yield Problem(
            f"stage.{name}",
            getattr(experiment.stage, name),
            f"DeepSpeed ignores it at stage {stage}",
            f"null at stage {stage}; it acts at {stages}",
            f"stage={better}, or stage.{name}=null",
        )


def grad_norm_is_needed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without the norm there is nothing to clip by (zero/config.py, compute_grad_norm)."""
    if experiment.stage.compute_grad_norm is False and experiment.train.max_grad_norm > 0:
        yield Problem(
            "stage.compute_grad_norm",
            False,
            f"clipping at train.max_grad_norm={experiment.train.max_grad_norm} needs the norm",
            "false only without clipping",
            "train.max_grad_norm=0, or stage.compute_grad_norm=null",
        )


def secondary_partition_divides_world(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """ZeRO++'s hpZ splits the ranks into equal groups."""
    size = experiment.stage.zero_hpz_partition_size
    if size and facts.world_size % size:
        divisors = [n for n in range(1, facts.world_size + 1) if facts.world_size % n == 0]
        yield Problem(
            "stage.zero_hpz_partition_size",
            size,
            f"does not divide the world size {facts.world_size}",
            ", ".join(map(str, divisors)),
            f"stage.zero_hpz_partition_size={divisors[-1]}",
        )


def quantized_frozen_weights_need_fp16(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """partition_parameters.py asserts fp16 for quantised frozen weights."""
    if experiment.stage.zero_quantized_nontrainable_weights and facts.dtype != "fp16":
        yield Problem(
            "stage.zero_quantized_nontrainable_weights",
            True,
            f"needs fp16, and the precision is {facts.dtype}",
            "false with other precisions",
            "precision=fp16, or stage.zero_quantized_nontrainable_weights=null",
        )


def removed_stage_1_stays_out(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed raises for it since 0.5.9 (engine.py, _configure_zero_optimizer)."""
    if experiment.stage.legacy_stage1:
        yield Problem(
            "stage.legacy_stage1",
            True,
            "DeepSpeed has removed the old stage 1",
            "null",
            "stage.legacy_stage1=null",
        )


def gradients_are_contiguous_under_offload(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """contiguous_gradients or cpu_offload (zero/stage_1_and_2.py)."""
    stage, offloaded = experiment.stage, experiment.offload.offload_optimizer.device != "none"
    if stage.contiguous_gradients is False and offloaded and stage.stage in (1, 2):
        key = "stage.contiguous_gradients"
        reason = f"offload turns it on at stage {stage.stage}"
        yield Problem(key, False, reason, "true or null under offload", f"{key}=null, or offload=none")


def grad_norm_is_kept_where_it_is_used(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """compute_grad_norm=false excludes offload, and stage 1 with bf16 and fp32 accumulation."""
    stage = experiment.stage
    if stage.compute_grad_norm is not False:
        return
    key = "stage.compute_grad_norm"
    if experiment.offload.offload_optimizer.device != "none":
        yield Problem(key, False, "DeepSpeed refuses it under optimizer offload", "null", f"{key}=null")
    if runs_bf16_optimizer(experiment, facts.dtype):
        reason = "DeepSpeed refuses it at stage 1 with bf16 and fp32 accumulation"
        yield Problem(key, False, reason, "null", f"{key}=null, or stage=2")


def zeropp_has_ranks_to_act_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """What travels between one rank and itself is neither quantised nor kept twice."""
    stage = experiment.stage
    if facts.world_size > 1:
        return
    for name in ("zero_quantized_weights", "zero_quantized_gradients"):
        if getattr(stage, name):
            key = f"stage.{name}"
            yield Problem(
                key,
                True,
                "one process communicates nothing",
                "null with one process",
                f"zeropp=none {key}=null",
            )


def quantisers_need_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed's quantisation kernels are CUDA's (op_builder/quantizer.py has no CPU build)."""
    names = ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights")
    for name in names:
        if facts.device == "cpu" and getattr(experiment.stage, name):
            key = f"stage.{name}"
            yield Problem(key, True, "needs a CUDA GPU", "null on a CPU", f"zeropp=none {key}=null")


def quantised_weights_and_autocast_exclude_each_other(
    experiment: Experiment, facts: Facts
) -> Iterator[Problem]:
    """torch_autocast.py asserts it."""
    if experiment.stage.zero_quantized_weights and experiment.precision.torch_autocast.enabled:
        key = "stage.zero_quantized_weights"
        off = "precision.torch_autocast.enabled=null precision.torch_autocast.dtype=null"
        fix = f"zeropp=none {key}=null, or {off}"
        yield Problem(key, True, "DeepSpeed refuses it with torch_autocast", "null with torch_autocast", fix)


def zenflow_stays_out(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Seen with deepspeed 0.19.8 and transformers 5.23 on a CPU."""
    for name, value in experiment.stage.zenflow.model_dump(exclude_none=True).items():
        key = f"stage.zenflow.{name}"
        yield Problem(key, value, ZENFLOW, "null", f"{key}=null")


ZENFLOW = (
    "under transformers' Trainer ZenFlow ends in an IndexError of the first forward pass at stage 3, "
    "and at stage 2 even the loss before the first update is another one"
)


def leaf_modules_are_fetched_at_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only stage 3 fetches modules."""
    for name, value in experiment.stage.leaf_module.model_dump(exclude_none=True).items():
        if experiment.stage.stage < 3:
            key = f"stage.leaf_module.{name}"
            reason = f"acts at stage 3, and this is stage {experiment.stage.stage}"
            yield Problem(key, value, reason, "null", f"stage=3, or {key}=null")


def weights_must_be_gathered_to_be_saved(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without gathering, stage 3 saves a model folder without weights."""
    gathered = experiment.stage.stage3_gather_16bit_weights_on_model_save
    if experiment.stage.stage == 3 and not gathered and experiment.checkpoint.save_final_model:
        yield Problem(
            "stage.stage3_gather_16bit_weights_on_model_save",
            gathered,
            "at stage 3 the final model would be saved without its weights",
            "true while checkpoint.save_final_model is true",
            "stage.stage3_gather_16bit_weights_on_model_save=true, or checkpoint.save_final_model=false",
        )


def gathering_in_sequence_fetches_nothing_ahead(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed sets the prefetch bucket to 1 then (engine.py), and under nvme nothing may be prefetched."""
    stage, key = experiment.stage, "stage.stage3_allgather_sequential"
    if stage.stage != 3 or not stage.stage3_allgather_sequential:
        return
    if experiment.offload.offload_param.device == "nvme":
        reason = "it fetches ahead, for which no number of buffers is enough with parameters on nvme"
        yield Problem(key, True, reason, "null", f"{key}=null")
    elif stage.stage3_prefetch_bucket_size not in (1, "auto", None):
        bucket = "stage.stage3_prefetch_bucket_size"
        reason = f"DeepSpeed makes it 1 with {key}=true"
        fix = f"{bucket}=1, or {key}=null"
        yield Problem(bucket, stage.stage3_prefetch_bucket_size, reason, "1 or auto", fix)


def warn_of_bf16_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """It reduces in one buffer after the backward pass, and knows no buckets (bf16_optimizer.py)."""
    if runs_bf16_optimizer(experiment, facts.dtype):
        text = (
            "at stage 1 with bf16 this is DeepSpeed's BF16_Optimizer: of the keys under stage it reads "
            "allgather_bucket_size alone"
        )
        yield Notice(level="warning", key="precision.data_types.grad_accum_dtype", text=text)


def advise_smaller_buckets_on_one_gpu(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """The DeepSpeed guide's advice for a single GPU."""
    if facts.world_size > 1 or facts.device == "cpu" or experiment.stage.stage not in (1, 2):
        return
    for name in ("reduce_bucket_size", "allgather_bucket_size"):
        size = getattr(experiment.stage, name)
        if isinstance(size, int) and size > SINGLE_GPU_BUCKET:
            yield Notice(
                level="advice",
                key=f"stage.{name}",
                text=f"{size} elements bring nothing on one GPU; stage.{name}=2e8 saves memory",
            )


def advise_round_robin(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """The guide: with offload, ranks copy gradients to the host side by side; more so with accumulation."""
    stage, offloaded = experiment.stage, experiment.offload.offload_optimizer.device == "cpu"
    if stage.stage in (1, 2) and offloaded and facts.world_size > 1 and stage.round_robin_gradients is None:
        text = "stage.round_robin_gradients=true lets the ranks copy gradients to the host side by side"
        yield Notice(level="advice", key="stage.round_robin_gradients", text=text)


ERRORS = (
    keys_act_at_this_stage,
    grad_norm_is_needed,
    secondary_partition_divides_world,
    quantized_frozen_weights_need_fp16,
    weights_must_be_gathered_to_be_saved,
    removed_stage_1_stays_out,
    gradients_are_contiguous_under_offload,
    grad_norm_is_kept_where_it_is_used,
    zeropp_has_ranks_to_act_on,
    quantisers_need_a_gpu,
    quantised_weights_and_autocast_exclude_each_other,
    zenflow_stays_out,
    leaf_modules_are_fetched_at_stage_3,
    gathering_in_sequence_fetches_nothing_ahead,
)
NOTICES = (warn_of_bf16_optimizer, advise_smaller_buckets_on_one_gpu, advise_round_robin)
