"""Packages that a plan needs are known before anything starts."""

import importlib.util
import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.support.planning import plan_of
from tests.support.refused import ONE_GPU
from zpipe.facts.architecture import architecture
from zpipe.machine.packages import OPTIMIZERS, missing_packages
from zpipe.terminal.plan_text import render


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any optional package."""

    def find(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr("zpipe.machine.packages.importlib.util.find_spec", find)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("overrides", "package", "install"),
    [
        (["optimizer=adamw_torch", "optimizer.optim=adamw_bnb_8bit"], "bitsandbytes", "bitsandbytes"),
        (["optimizer=adamw_torch", "optimizer.optim=schedule_free_adamw"], "schedulefree", "schedulefree"),
        (["train.use_liger_kernel=true"], "liger-kernel", '"zpipe[fast]"'),
        (["kernels=liger"], "liger-kernel", '"zpipe[fast]", or kernels=none'),
        (["model.attn_implementation=flash_attention_2", "precision=bf16"], "flash-attn", "flash-attn"),
        (["model.attn_implementation=flash_attention_4", "precision=bf16"], "flash-attn-4", "flash-attn-4"),
        (
            ["model.attn_implementation=kernels-community/flash-attn2", "precision=bf16"],
            "kernels",
            '"transformers[kernels]"',
        ),
        (["deepspeed.tensorboard.enabled=true"], "tensorboard", "tensorboard"),
    ],
)
def test_missing_package_is_named_with_its_setting(overrides: list[str], package: str, install: str) -> None:
    (problem,) = missing_packages(plan_of(*overrides, hardware=ONE_GPU))
    assert problem.key == package
    assert (
        overrides[-1].partition("=")[0] in problem.reason or overrides[0].partition("=")[0] in problem.reason
    )
    assert f"pip install {install}" in problem.fix


@pytest.mark.usefixtures("bare")
def test_default_run_needs_no_further_package() -> None:
    assert missing_packages(plan_of()) == []


def test_every_optimizer_of_another_package_is_in_the_table() -> None:
    """transformers keeps the optimizers that need a package in tables of their own."""
    from transformers.training_args import OptimizerNames

    spec = importlib.util.find_spec("transformers")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "trainer_optimizer.py").read_text(encoding="utf-8")
    guarded = {
        name for part in source.split("\ndef ") if "_available()" in part for name in [part.split("(")[0]]
    }
    assert len(guarded) >= 7
    handlers = dict(re.findall(r"OptimizerNames\.(\w+)[^\n]*?(_get_\w+)", source))
    for name, handler in handlers.items():
        optim = OptimizerNames[name].value
        found = any(re.fullmatch(pattern, optim) for pattern, _, _ in OPTIMIZERS)
        assert found or handler not in guarded, optim


def test_architectures_are_read_from_the_installed_transformers() -> None:
    llama = architecture("llama")
    assert llama is not None
    assert llama.declares("_supports_sdpa") and llama.declares("supports_gradient_checkpointing")
    assert {"hidden_size", "num_attention_heads", "pad_token_id"} <= set(llama.fields)


@pytest.mark.usefixtures("bare")
def test_the_plan_says_which_packages_this_machine_lacks() -> None:
    text = render(plan_of("train.use_liger_kernel=true", hardware=ONE_GPU))
    assert "missing    liger-kernel is not installed here" in text
