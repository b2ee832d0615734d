"""The options of the groups `optimizer` and `scheduler`, chosen once all files are read."""

from functools import cache
from typing import Any

import yaml

from zpipe.converters.own_defaults import DECAY_PEAK
from zpipe.converters.result import Draft, same
from zpipe.facts.implementation import UNTESTED
from zpipe.problems import Problem
from zpipe.resources import CONF
from zpipe.schema.optimizer import DEEPSPEED_TYPES, TORCH_TYPES
from zpipe.schema.scheduler import PARAMS_OF

LR_RANGE_TEST_MIN_LR = 1e-3
"""DeepSpeed's default start of the range test; zpipe's default is train.learning_rate."""
WARMUP_NUM_STEPS = 1000
"""DeepSpeed's default, which zpipe would otherwise derive (deepspeed/runtime/lr_schedules.py)."""


def resolve_optimizer(draft: Draft) -> None:
    kind = draft.values.pop("optimizer.type", None)
    optim = draft.pending.get("argument.optim")
    if kind is not None:
        _deepspeed_optimizer(_canonical_name(kind), draft)
        if optim is not None:
            draft.note("optim", optim, f"left out: the optimizer block of the JSON sets {kind}")
        return
    if any(key.startswith("optimizer.") for key in draft.present):
        reason = "not given: DeepSpeed ignores the whole block"
        draft.refuse(Problem("optimizer.type", "", reason, fix='"type": "AdamW"'), "optimizer=adamw")
        draft.choose("optimizer", "adamw")
    elif optim is not None:
        _choose_by("optim", str(optim), "optimizer", draft)
    elif draft.options.get("offload", "none") == "none":
        draft.choose("optimizer", "adamw_torch_fused")
    else:
        reason = "not given: with offload accelerate uses DeepSpeed's CPU Adam, which optimizer=adamw selects"
        draft.note("optimizer", "", reason)
        draft.choose("optimizer", "adamw")


def _canonical_name(kind: Any) -> str:
    names = {name.lower(): name for name in (*DEEPSPEED_TYPES, *TORCH_TYPES)}
    return names.get(str(kind).lower(), str(kind))


def _deepspeed_optimizer(kind: str, draft: Draft) -> None:
    _choose_by("type", kind, "optimizer", draft)
    if kind == "Adam" and "optimizer.params.adam_w_mode" not in draft.present:
        draft.put("optimizer.params.adam_w_mode", True, "optimizer.type")  # DeepSpeed's "Adam" is AdamW
    draft.pending["json.optimizer"] = kind
    allows = "zero_allow_untested_optimizer"
    if kind in UNTESTED and draft.options.get("stage", "0") != "0" and allows not in draft.present:
        draft.note(allows, True, f"not given: DeepSpeed refuses {kind} with ZeRO without it")


def resolve_scheduler(draft: Draft) -> None:
    kind = draft.values.pop("scheduler.type", None)
    argument = draft.pending.get("argument.lr_scheduler_type")
    if kind is None:
        if any(key.startswith("scheduler.") for key in draft.present):
            reason = "not given: DeepSpeed ignores the whole block"
            draft.refuse(Problem("scheduler.type", "", reason, fix='"type": "WarmupLR"'))
        _transformers_scheduler(str(argument or "linear"), draft)
        return
    _choose_by("type", str(kind), "scheduler", draft)
    if argument not in (None, "linear"):
        reason = f"left out: the scheduler block of the JSON sets {kind}"
        draft.note("lr_scheduler_type", argument, reason)
    _shared_with_arguments(str(kind), draft)
    key = "scheduler.params.warmup_num_steps"
    if str(kind).startswith("Warmup") and key not in draft.present:
        draft.put("train.warmup_steps", WARMUP_NUM_STEPS, key)
    elif key in draft.values and key not in draft.overridden:
        # transformers refuses another value in the JSON
        draft.put("train.warmup_steps", draft.values.pop(key), key)
    start = "scheduler.params.lr_range_test_min_lr"
    if kind == "LRRangeTest" and start not in draft.present:
        draft.put(start, LR_RANGE_TEST_MIN_LR, start)


def _shared_with_arguments(kind: str, draft: Draft) -> None:
    """Rate and steps that transformers accepts only if TrainingArguments have the same."""
    peak, steps = "scheduler.params.warmup_max_lr", "scheduler.params.total_num_steps"
    if kind == "WarmupDecayLR" and peak not in draft.present:
        _deepspeeds_peak(peak, draft)
    elif _is_number(draft.values.get(peak)) and "warmup_max_lr" in PARAMS_OF.get(kind, ()):
        draft.put("train.learning_rate", draft.values.pop(peak), peak)
    if _is_number(draft.values.get(steps)) and "total_num_steps" in PARAMS_OF.get(kind, ()):
        if draft.values.get("train.max_steps") == -1 and "train.max_steps" not in draft.overridden:
            del draft.values["train.max_steps"]  # the number of epochs has to lead to these steps
        value = draft.values.pop(steps)
        draft.put("train.max_steps", value, steps)
        reason = "transformers refuses any other number of training steps: train.max_steps is set to it"
        draft.note(steps, value, reason)


def _deepspeeds_peak(key: str, draft: Draft) -> None:
    """Replaces the learning rate: a schedule sets it from the first step on."""
    rate = "train.learning_rate"
    if rate in draft.overridden:
        return
    given = draft.values.get(rate)
    draft.values[rate], source = DECAY_PEAK, draft.sources.get(rate)
    draft.sources[rate] = key
    fix = f"add {rate}={5e-5 if given is None else given} after the file names"
    reason = f"not given: WarmupDecayLR reaches its own peak of {DECAY_PEAK}, whatever the learning rate is"
    draft.note(key, "", reason, fix)
    if source is not None and not same(given, DECAY_PEAK):
        draft.note(source, given, f"left out: the scheduler sets the learning rate, up to {DECAY_PEAK}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _transformers_scheduler(kind: str, draft: Draft) -> None:
    """Chooses the option of this scheduler, unless its parameters would be merged with those of the files."""
    option = _options_by("scheduler", "lr_scheduler_type").get(kind, "linear")
    content = yaml.safe_load((CONF / "scheduler" / f"{option}.yaml").read_text(encoding="utf-8"))
    if "lr_scheduler_kwargs" in content and "scheduler.lr_scheduler_kwargs" in draft.values:
        draft.choose("scheduler", "linear")
        draft.put("scheduler.lr_scheduler_type", kind, "lr_scheduler_type")
    else:
        _choose_by("lr_scheduler_type", kind, "scheduler", draft)


def _choose_by(key: str, value: str, group: str, draft: Draft) -> None:
    """Chooses the option that sets the key to this value, or the group's default and the key itself."""
    option = _options_by(group, key).get(value)
    if option is not None:
        draft.choose(group, option)
        return
    draft.choose(group, {"optimizer": "adamw", "scheduler": "linear"}[group])
    if group in draft.overridden:
        return
    other = {"type": "optim" if group == "optimizer" else "lr_scheduler_type"}.get(key, "type")
    draft.values.update({f"{group}.{key}": value, f"{group}.{other}": None})
    draft.sources.setdefault(f"{group}.{key}", f"{group}.{key}" if key == "type" else key)


@cache
def _options_by(group: str, key: str) -> dict[str, str]:
    """For each value of the key, the option that sets it."""
    options: dict[str, str] = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if key in content:
            options.setdefault(str(content[key]), file.stem)
    return options
