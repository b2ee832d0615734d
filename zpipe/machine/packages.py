"""Python packages that a plan needs beyond those that zpipe installs, by the setting that needs them."""

import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata

from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.schema.model import is_hub_kernel

OPTIMIZERS = (
    (r".*bnb.*|adamw_8bit|lion_.*|paged_.*|ademamix.*|rmsprop_.*", "bitsandbytes", "bitsandbytes"),
    (r"galore_.*", "galore_torch", "galore-torch"),
    (r"apollo_.*", "apollo_torch", "apollo-torch"),
    (r"lomo|adalomo", "lomo_optim", "lomo-optim"),
    (r"grokadamw", "grokadamw", "grokadamw"),
    (r"schedule_free_.*", "schedulefree", "schedulefree"),
    (r"stable_adamw", "optimi", "torch-optimi"),
    (r"adamw_torch_[48]bit", "torchao", "torchao"),
    (r"adamw_anyprecision", "torchdistx", "torchdistx"),
)
"""Values of TrainingArguments.optim, with the module and the package (transformers/trainer_optimizer.py)."""

ATTENTION = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
}
"""Distributions, by which transformers tells them apart; without them it would take a kernel of the hub."""
LIGER = ("train.use_liger_kernel=true", "train.use_liger_kernel=false")
EXTRAS = {"liger-kernel": '"zpipe[fast]"', "kernels": '"transformers[kernels]"'}
"""What installs a package in a version that works, where its newest one may not."""

MONITORS = {"tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet_ml"}
"""Blocks of DeepSpeed's JSON, with the module that they import (deepspeed/monitor)."""


def missing_packages(plan: Plan) -> list[Problem]:
    """The packages that are not installed, each with the setting that needs it."""
    needed = [*_of_optimizer(plan), *_of_model(plan), *_of_monitors(plan)]
    return [
        Problem(package, "not installed", f"{setting} needs it", fix=f"{_install(package)}, or {without}")
        for module, package, setting, without in needed
        if not _is_installed(module, package)
    ]


def _install(package: str) -> str:
    return f"pip install {EXTRAS.get(package, package)}"


def _is_installed(module: str | None, package: str) -> bool:
    if module is not None:
        return importlib.util.find_spec(module) is not None
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


Needed = tuple[str | None, str, str, str]
"""Module (None: the package decides), package, the setting that needs it, the override that does without."""


def _of_optimizer(plan: Plan) -> Iterator[Needed]:
    optim = plan.experiment.optimizer.optim
    for pattern, module, package in OPTIMIZERS:
        if optim is not None and re.fullmatch(pattern, optim):
            yield module, package, f"optimizer.optim={optim}", "optimizer=adamw_torch"
            return


def _of_model(plan: Plan) -> Iterator[Needed]:
    experiment = plan.experiment
    if plan.training_arguments.get("use_liger_kernel"):
        named = experiment.kernels.liger is not None
        setting, without = ("kernels=liger", "kernels=none") if named else LIGER
        yield "liger_kernel", "liger-kernel", setting, without
    chosen = experiment.model.attn_implementation or ""
    setting, without = f"model.attn_implementation={chosen}", "model.attn_implementation=sdpa"
    if chosen in ATTENTION:
        yield None, ATTENTION[chosen], setting, without
    if is_hub_kernel(chosen):
        yield "kernels", "kernels", setting, without
    if _needs_sentencepiece(plan.model.tokenizer):
        yield "sentencepiece", "sentencepiece", f"the tokenizer {plan.model.tokenizer}", "model.tokenizer=…"


def _needs_sentencepiece(tokenizer: str) -> bool:
    """Whether the folder has only the model file of SentencePiece, which transformers converts."""
    folder = expanded(tokenizer)
    pieces = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
    has_pieces = any((folder / name).is_file() for name in pieces)
    return has_pieces and not (folder / "tokenizer.json").is_file()


def _of_monitors(plan: Plan) -> Iterator[Needed]:
    for block, module in MONITORS.items():
        if plan.ds_config.get(block, {}).get("enabled"):
            package = module.replace("_", "-")
            yield module, package, f"deepspeed.{block}.enabled=true", f"deepspeed.{block}.enabled=false"
