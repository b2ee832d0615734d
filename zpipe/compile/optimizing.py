"""The optimizer and scheduler blocks of the JSON. Most of their values come from `train`."""

import math
from typing import Any

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import UNTESTED, uses_torch_adam
from zpipe.schema.experiment import Experiment
from zpipe.schema.optimizer import SHARED_PARAMS
from zpipe.schema.scheduler import PARAMS_OF

Json = dict[str, Any]


def optimizer_block(experiment: Experiment, facts: Facts) -> Json:
    """`optimizer`, if it is DeepSpeed's, and keys without which DeepSpeed or accelerate would not use it."""
    optimizer, train = experiment.optimizer, experiment.train
    if optimizer.type is None:
        # accelerate would otherwise replace the chosen optimizer with DeepSpeed's CPU Adam.
        offloaded = experiment.offload.offload_optimizer.device != "none"
        return {"zero_force_ds_cpu_optimizer": False} if offloaded else {}
    shared: Json = {
        "lr": train.learning_rate,
        "betas": [train.adam_beta1, train.adam_beta2],
        "eps": train.adam_epsilon,
        "weight_decay": train.weight_decay,
    }
    params = {name: value for name, value in shared.items() if name in SHARED_PARAMS[optimizer.type]}
    if uses_torch_adam(experiment, facts):
        params["torch_adam"] = True
    if optimizer.type == "Adam":
        params["adam_w_mode"] = False  # DeepSpeed's "Adam" decouples weight decay by default
    params.update(optimizer.params.given())
    block: Json = {"type": optimizer.type, "params": params}
    if optimizer.legacy_fusion is not None:
        block["legacy_fusion"] = optimizer.legacy_fusion
    is_untested = optimizer.type in UNTESTED and experiment.stage.stage > 0
    return {"optimizer": block, **({"zero_allow_untested_optimizer": True} if is_untested else {})}


def scheduler_block(experiment: Experiment, facts: Facts) -> Json:
    """`scheduler`; empty for transformers' schedulers."""
    scheduler, train = experiment.scheduler, experiment.train
    if scheduler.type is None:
        return {}
    chosen = scheduler.params.given()
    derived: Json = {
        "warmup_min_lr": 0,
        "warmup_max_lr": train.learning_rate,
        "warmup_num_steps": _warmup_steps(train.warmup_steps, facts.total_steps),
        "total_num_steps": facts.total_steps or "auto",
        "lr_range_test_min_lr": train.learning_rate,
        "cycle_max_lr": train.learning_rate,
        "cycle_min_lr": chosen.get("cycle_max_lr", train.learning_rate) / 10,
    }
    params = {name: value for name, value in derived.items() if name in PARAMS_OF[scheduler.type]}
    params.update({name: value for name, value in chosen.items() if value != "auto"})
    return {"scheduler": {"type": scheduler.type, "params": params}}


def _warmup_steps(given: float, total_steps: int | None) -> int | str:
    """As TrainingArguments.get_warmup_steps, but at least 1, which DeepSpeed's schedulers require."""
    if given >= 1 or given == 0:
        return max(1, int(given))
    return "auto" if total_steps is None else max(1, math.ceil(given * total_steps))
