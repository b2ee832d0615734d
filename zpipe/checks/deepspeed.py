"""What DeepSpeed's JSON can say and transformers' Trainer makes useless, or turns into an error."""

from collections.abc import Iterator

from zpipe.checks.engine import settings_of_what_is_off
from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.redact import HIDDEN
from zpipe.schema.experiment import Experiment

UNDER_THE_TRAINER: dict[str, str] = {
    "autotuning": "DeepSpeed's own launcher runs the autotuner, and knows no offload; use a sweep: zpipe -m",
    "data_efficiency": "acts in DeepSpeed's own data loader, and the Trainer brings another",
    "pipeline": "acts on a PipelineModule, which transformers' models are not",
    "expert_parallel": "transformers' Trainer does not know AutoEP: it reduces experts like other weights",
    "datastates_ckpt": "its checkpoint engine is a package of its own that DeepSpeed does not bring",
    "steps_per_print": "accelerate overwrites it; zpipe shows progress every train.logging_steps",
    "dataloader_drop_last": "acts in DeepSpeed's own data loader; here train.dataloader_drop_last acts",
    "disable_allgather": "DeepSpeed reads it and uses it nowhere",
    "managed_gradient_accumulation": "accelerate counts on the engine to count micro-batches",
    "sequence_parallel_size": "sequence parallelism is set up through transformers' ParallelismConfig",
    "data_parallel_size": "sequence parallelism is set up through transformers' ParallelismConfig",
    "seq_parallel_communication_data_type": "acts with sequence parallelism, which this run has not",
    "use_data_before_expert_parallelism": "acts with expert parallelism, which this run has not",
}
"""Keys under `deepspeed.` and why they do nothing, or harm, here."""


def keys_act_under_the_trainer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Each of these is ignored, replaced, or raises after the model was loaded."""
    for name, reason in UNDER_THE_TRAINER.items():
        value = getattr(experiment.deepspeed, name)
        if value is not None:
            key = f"deepspeed.{name}"
            yield Problem(key, value, reason, "null", f"{key}=null")


def inference_blocks_stay_out(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The hybrid engine replaces layers for generation; weight quantisation is for inference."""
    for name, reason in (
        ("hybrid_engine", "it is DeepSpeed-Chat's, and transformers' Trainer does not generate through it"),
        ("weight_quantization", "it quantises weights for inference, and training needs them whole"),
    ):
        block = getattr(experiment.deepspeed, name)
        for inner, value in block.model_dump(exclude_none=True).items():
            key = f"deepspeed.{name}.{inner}"
            yield Problem(key, value, reason, "null", f"{key}=null")


def monitors_are_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a monitor that does not run."""
    for name in ("tensorboard", "csv_monitor", "wandb", "comet"):
        yield from settings_of_what_is_off(f"deepspeed.{name}", getattr(experiment.deepspeed, name))


def secrets_stay_in_the_environment(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The JSON, the plan and MLflow's artifacts are read by many."""
    if experiment.deepspeed.comet.api_key is not None:
        key = "deepspeed.comet.api_key"
        reason = "it would be written to plan.json, ds_config.json and MLflow; export COMET_API_KEY instead"
        yield Problem(key, HIDDEN, reason, "null", f"{key}=null")


def sums_are_supported(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """runtime/config.py, _do_error_check."""
    if experiment.deepspeed.gradient_allreduce_op != "sum":
        return
    against = {
        "stage 3": experiment.stage.stage == 3,
        "DeepCompile": bool(experiment.compile.deepcompile),
    }
    for what, there in against.items():
        if there:
            key = "deepspeed.gradient_allreduce_op"
            yield Problem(key, "sum", f"DeepSpeed refuses it with {what}", "mean, null", f"{key}=null")


def scaling_happens_after_the_reduction(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """zero/stage_1_and_2.py and stage3.py assert it where gradients are reduce-scattered."""
    stage, block = experiment.stage, experiment.deepspeed
    if stage.stage < 2 or stage.reduce_scatter is False:
        return
    if block.prescale_gradients:
        yield _not_with_reduce_scatter("prescale_gradients", True, stage.stage)
    if block.gradient_predivide_factor not in (None, 1.0):
        yield _not_with_reduce_scatter(
            "gradient_predivide_factor", block.gradient_predivide_factor, stage.stage
        )


def predividing_excludes_prescaling(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The factor is read where gradients are scaled after the reduction (engine.py, allreduce_bucket)."""
    block, key = experiment.deepspeed, "deepspeed.gradient_predivide_factor"
    if block.prescale_gradients and block.gradient_predivide_factor is not None:
        reason = "DeepSpeed ignores it with deepspeed.prescale_gradients=true"
        fix = f"{key}=null, or deepspeed.prescale_gradients=null"
        yield Problem(key, block.gradient_predivide_factor, reason, "null", fix)


def _not_with_reduce_scatter(name: str, value: object, stage: int) -> Problem:
    key = f"deepspeed.{name}"
    reason = f"DeepSpeed asserts against it at stage {stage} with reduce-scatter"
    return Problem(
        key,
        value,
        reason,
        "null, or stage.reduce_scatter=false",
        f"{key}=null, or stage.reduce_scatter=false",
    )


def tensor_parallel_groups_fit(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Groups of equal size, whole attention heads, and the stages at which it was seen to train rightly."""
    size = experiment.deepspeed.tensor_parallel.autotp_size or 0
    if size < 2:
        return
    key = "deepspeed.tensor_parallel.autotp_size"
    if facts.world_size % size:
        divisors = [n for n in range(1, facts.world_size + 1) if facts.world_size % n == 0]
        reason = f"does not divide the world size {facts.world_size}"
        yield Problem(key, size, reason, ", ".join(map(str, divisors)), f"{key}=null")
    heads = facts.model.config.get("num_key_value_heads")
    if heads is not None and heads % size:
        yield Problem(
            key, size, f"the model has {heads} key-value heads", f"a divisor of {heads}", f"{key}=null"
        )
    if experiment.stage.stage not in (1, 2):
        reason = f"zpipe has not seen AutoTP train rightly at stage {experiment.stage.stage}"
        yield Problem(key, size, reason, "stages 1 and 2", f"stage=2, or {key}=null")


def tensor_parallel_keys_act(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a group size the rest of the block does nothing."""
    block = experiment.deepspeed.tensor_parallel
    if (block.autotp_size or 0) > 1:
        return
    for name, value in block.model_dump(exclude_none=True, exclude={"autotp_size"}).items():
        key = f"deepspeed.tensor_parallel.{name}"
        yield Problem(key, value, "acts with autotp_size of 2 or more only", "null", f"{key}=null")


ERRORS = (
    keys_act_under_the_trainer,
    inference_blocks_stay_out,
    monitors_are_on,
    secrets_stay_in_the_environment,
    sums_are_supported,
    scaling_happens_after_the_reduction,
    predividing_excludes_prescaling,
    tensor_parallel_groups_fit,
    tensor_parallel_keys_act,
)
