"""ZeRO stage against everything that acts at some stages only."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plan import Notice
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


ERRORS = (
    keys_act_at_this_stage,
    grad_norm_is_needed,
    secondary_partition_divides_world,
    quantized_frozen_weights_need_fp16,
    weights_must_be_gathered_to_be_saved,
)
NOTICES = (advise_smaller_buckets_on_one_gpu,)
