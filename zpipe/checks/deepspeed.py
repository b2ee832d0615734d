"""Keys of DeepSpeed's JSON that have no effect or fail under transformers' Trainer."""

from collections.abc import Iterator

from zpipe.checks.engine import settings_of_a_disabled_block
from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.redact import HIDDEN, redact
from zpipe.schema.experiment import Experiment
from zpipe.trees import value_at

NO_SEQUENCE_PARALLELISM = (
    "sequence parallelism is configured through transformers' ParallelismConfig, which zpipe does not offer"
)

UNDER_THE_TRAINER: dict[str, str] = {
    "autotuning": "only runs under DeepSpeed's launcher, and does not tune offload; use a sweep: zpipe -m",
    "data_efficiency": "only used in DeepSpeed's data loader, but the Trainer uses its own",
    "pipeline": "only used with a PipelineModule, which transformers' models are not",
    "expert_parallel": "transformers' Trainer does not support AutoEP and reduces experts like other weights",
    "datastates_ckpt": "its checkpoint engine is a separate package that DeepSpeed does not include",
    "steps_per_print": "accelerate overwrites it; zpipe shows progress every train.logging_steps",
    "dataloader_drop_last": "only used in DeepSpeed's data loader; use train.dataloader_drop_last",
    "disable_allgather": "DeepSpeed reads it but never uses it",
    "managed_gradient_accumulation": "accelerate relies on the engine to count micro-batches",
    "sequence_parallel_size": NO_SEQUENCE_PARALLELISM,
    "data_parallel_size": NO_SEQUENCE_PARALLELISM,
    "seq_parallel_communication_data_type": "only used with sequence parallelism, which zpipe does not offer",
    "use_data_before_expert_parallelism": "only used with expert parallelism, which this run does not use",
}
"""Keys under `deepspeed.`, and why they have no effect or do harm here."""

HARMFUL = frozenset(
    {
        "expert_parallel",
        "datastates_ckpt",
        "managed_gradient_accumulation",
        "sequence_parallel_size",
        "data_parallel_size",
    }
)
"""Those of them that change the run or make it fail."""


def keys_work_under_the_trainer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Each of these is ignored, overwritten, or raises after the model is loaded."""
    for name, reason in UNDER_THE_TRAINER.items():
        value = getattr(experiment.deepspeed, name)
        if value is not None:
            key = f"deepspeed.{name}"
            yield Problem(key, value, reason, "null", either(f"{key}=null"), ignored=name not in HARMFUL)


def inference_blocks_are_unused(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The hybrid engine replaces layers for generation; weight quantization is for inference."""
    for name, reason in (
        ("hybrid_engine", "belongs to DeepSpeed-Chat; transformers' Trainer does not generate with it"),
        ("weight_quantization", "quantizes weights for inference; training needs them in full precision"),
    ):
        block = getattr(experiment.deepspeed, name)
        for inner, value in block.given().items():
            key = f"deepspeed.{name}.{inner}"
            yield Problem(key, value, reason, "null", either(f"{key}=null"))


def monitor_settings_need_the_monitor(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a monitor that is turned off are ignored."""
    for name in ("tensorboard", "csv_monitor", "wandb", "comet"):
        yield from settings_of_a_disabled_block(f"deepspeed.{name}", getattr(experiment.deepspeed, name))


def secrets_are_not_in_the_configuration(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Many people can read the JSON, the plan and MLflow's artifacts."""
    if experiment.deepspeed.comet.api_key is not None:
        key = "deepspeed.comet.api_key"
        reason = "it would be written to plan.json, ds_config.json and MLflow; export COMET_API_KEY instead"
        yield Problem(key, HIDDEN, reason, "null", either(f"{key}=null"))
    for key in (
        "tracking.experiment",
        "tracking.run_name",
        "model.name_or_path",
        "model.tokenizer",
        "data.path",
    ):
        given = value_at(experiment, key)
        if given is not None and redact(given) != given:
            reason = "it contains a secret, and the plan and MLflow show it to everybody"
            yield Problem(key, HIDDEN, reason, "a text without secrets")


def gradient_sums_are_supported(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed refuses sums at stage 3 and with DeepCompile (runtime/config.py, _do_error_check)."""
    if experiment.deepspeed.gradient_allreduce_op != "sum":
        return
    unsupported = {
        "at stage 3": experiment.stage.stage == 3,
        "with DeepCompile": bool(experiment.compile.deepcompile),
    }
    for where, applies in unsupported.items():
        if applies:
            key = "deepspeed.gradient_allreduce_op"
            yield Problem(
                key, "sum", f"DeepSpeed does not support it {where}", "mean, null", either(f"{key}=null")
            )


def gradient_scaling_excludes_reduce_scatter(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Asserted in zero/stage_1_and_2.py and stage3.py where gradients are reduce-scattered."""
    stage, block = experiment.stage, experiment.deepspeed
    if stage.stage < 2 or stage.reduce_scatter is False:
        return
    if block.prescale_gradients:
        yield _not_with_reduce_scatter("prescale_gradients", True, stage.stage)
    if block.gradient_predivide_factor not in (None, 1.0):
        yield _not_with_reduce_scatter(
            "gradient_predivide_factor", block.gradient_predivide_factor, stage.stage
        )


def predivide_factor_excludes_prescaling(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed only reads the factor where it scales after the reduction (engine.py, allreduce_bucket)."""
    block, key = experiment.deepspeed, "deepspeed.gradient_predivide_factor"
    if block.prescale_gradients and block.gradient_predivide_factor is not None:
        reason = "DeepSpeed ignores it with deepspeed.prescale_gradients=true"
        fix = either(f"{key}=null", "deepspeed.prescale_gradients=null")
        yield Problem(key, block.gradient_predivide_factor, reason, "null", fix, ignored=True)


def _not_with_reduce_scatter(name: str, value: object, stage: int) -> Problem:
    key = f"deepspeed.{name}"
    reason = f"DeepSpeed does not support it with reduce-scatter at stage {stage}"
    return Problem(
        key,
        value,
        reason,
        "null, or stage.reduce_scatter=false",
        either(f"{key}=null", "stage.reduce_scatter=false"),
    )


def tensor_parallel_groups_fit(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Groups of equal size, whole attention heads, and the stages at which AutoTP trained correctly."""
    size = experiment.deepspeed.tensor_parallel.autotp_size or 0
    if size < 2:
        return
    key = "deepspeed.tensor_parallel.autotp_size"
    if facts.world_size % size:
        divisors = [n for n in range(1, facts.world_size + 1) if facts.world_size % n == 0]
        reason = f"does not divide the world size {facts.world_size}"
        yield Problem(key, size, reason, ", ".join(map(str, divisors)), either(f"{key}=null"))
    heads = facts.model.config.get("num_key_value_heads")
    if heads is not None and heads % size:
        yield Problem(
            key,
            size,
            f"does not divide the model's {heads} key-value heads",
            f"a divisor of {heads}",
            either(f"{key}=null"),
        )
    if experiment.stage.stage not in (1, 2):
        reason = f"AutoTP has not been verified to train correctly at stage {experiment.stage.stage}"
        yield Problem(key, size, reason, "stages 1 and 2", either("stage=2", f"{key}=null"))


def tensor_parallel_keys_need_a_group(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a group size the rest of the block has no effect."""
    block = experiment.deepspeed.tensor_parallel
    if (block.autotp_size or 0) > 1:
        return
    for name, value in block.given(without={"autotp_size"}).items():
        key = f"deepspeed.tensor_parallel.{name}"
        yield Problem(
            key,
            value,
            "only used with deepspeed.tensor_parallel.autotp_size of 2 or more",
            "null",
            either(f"{key}=null"),
            ignored=True,
        )


ERRORS = (
    keys_work_under_the_trainer,
    inference_blocks_are_unused,
    monitor_settings_need_the_monitor,
    secrets_are_not_in_the_configuration,
    gradient_sums_are_supported,
    gradient_scaling_excludes_reduce_scatter,
    predivide_factor_excludes_prescaling,
    tensor_parallel_groups_fit,
    tensor_parallel_keys_need_a_group,
)
