"""Optimizer, scheduler and the training arguments that depend on them."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def exactly_one_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers'; both or none raises inside accelerate."""
    optimizer = experiment.optimizer
    if (optimizer.type is None) == (optimizer.optim is None):
        yield Problem(
            "optimizer",
            f"type {optimizer.type}, optim {optimizer.optim}",
            "exactly one of optimizer.type (DeepSpeed's) and optimizer.optim (transformers') is needed",
            fix="optimizer=adamw or optimizer=adamw_torch",
        )


def exactly_one_scheduler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Either DeepSpeed's or transformers'."""
    scheduler = experiment.scheduler
    if (scheduler.type is None) == (scheduler.lr_scheduler_type is None):
        yield Problem(
            "scheduler",
            f"type {scheduler.type}, lr_scheduler_type {scheduler.lr_scheduler_type}",
            "exactly one of scheduler.type (DeepSpeed's) and scheduler.lr_scheduler_type is needed",
            fix="scheduler=warmup_decay or scheduler=linear",
        )


def deepspeed_scheduler_needs_its_optimizer(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate refuses a scheduler in the JSON with an optimizer in the code."""
    if experiment.scheduler.type is not None and experiment.optimizer.optim is not None:
        yield Problem(
            "scheduler.type",
            experiment.scheduler.type,
            f"a scheduler of DeepSpeed's cannot drive transformers' {experiment.optimizer.optim}",
            "a scheduler of transformers', or an optimizer of DeepSpeed's",
            "scheduler=linear, or optimizer=adamw",
        )


def offload_needs_deepspeed_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate would replace the optimizer by DeepSpeed's CPU Adam without a word."""
    offloaded = experiment.offload.offload_optimizer.device != "none"
    optimizer = experiment.optimizer
    if offloaded and optimizer.optim is not None:
        yield Problem(
            "optimizer.optim",
            optimizer.optim,
            "offloaded optimizer states are updated by DeepSpeed's CPU Adam",
            "DeepSpeed's optimizers under offload",
            "optimizer=adamw, or offload=none",
        )
    if offloaded and optimizer.torch_adam:
        yield Problem(
            "optimizer.torch_adam",
            True,
            "PyTorch's Adam cannot update offloaded states at speed; DeepSpeed's CPU Adam does",
            "null or false under offload",
            "optimizer.torch_adam=null, or offload=none",
        )


def torch_adam_is_for_deepspeed_adam(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """torch_adam chooses between two implementations of DeepSpeed's Adam."""
    if experiment.optimizer.torch_adam is not None and experiment.optimizer.type is None:
        yield Problem(
            "optimizer.torch_adam",
            experiment.optimizer.torch_adam,
            "acts with DeepSpeed's Adam and AdamW alone",
            "null",
            "optimizer=adamw, or optimizer.torch_adam=null",
        )


def evaluation_needs_held_out_data(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """There is nothing to evaluate on unless a share is held out."""
    strategy = experiment.train.eval_strategy
    if strategy != "no" and experiment.data.eval_fraction == 0:
        yield Problem(
            "train.eval_strategy",
            strategy,
            "no data is held out for evaluation",
            "no, while data.eval_fraction is 0",
            "data.eval_fraction=0.02, or train.eval_strategy=no",
        )


def best_model_needs_matching_strategies(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers raises after the model was loaded."""
    train, checkpoint = experiment.train, experiment.checkpoint
    if not train.load_best_model_at_end:
        return
    if checkpoint.save_only_model:
        yield Problem(
            "checkpoint.save_only_model",
            True,
            "the best model cannot be loaded from checkpoints without DeepSpeed's state",
            "false with train.load_best_model_at_end",
            "checkpoint.save_only_model=false",
        )
    if train.eval_strategy != checkpoint.save_strategy:
        yield Problem(
            "train.load_best_model_at_end",
            True,
            f"evaluation is by {train.eval_strategy}, saving by {checkpoint.save_strategy}",
            "the same strategy for both",
            f"train.eval_strategy={checkpoint.save_strategy}",
        )


def liger_and_compile_do_not_mix(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Seen on an H200: an illegal memory access under transformers' Trainer."""
    if experiment.train.use_liger_kernel and experiment.train.torch_compile:
        yield Problem(
            "train.torch_compile",
            True,
            "together with train.use_liger_kernel it ended in an illegal memory access on an H200",
            "one of the two",
            "train.torch_compile=false, or train.use_liger_kernel=false",
        )


ERRORS = (
    exactly_one_optimizer,
    exactly_one_scheduler,
    deepspeed_scheduler_needs_its_optimizer,
    offload_needs_deepspeed_adam,
    torch_adam_is_for_deepspeed_adam,
    evaluation_needs_held_out_data,
    best_model_needs_matching_strategies,
    liger_and_compile_do_not_mix,
)
