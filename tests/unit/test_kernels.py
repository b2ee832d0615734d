"""Which kernels a plan chooses: Liger's or transformers', and what it says about it."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.support.planning import CPU, H200, gpus, plan_of, problems_of
from zpipe.facts.liger import liger_settings
from zpipe.machine.hardware import Hardware
from zpipe.plans.changes import result_changes
from zpipe.plans.plan import Plan

GPU = gpus(H200)


def uses_liger(plan: Plan) -> bool:
    return bool(plan.training_arguments["use_liger_kernel"])


def notice_about(plan: Plan, key: str) -> str:
    return next((notice.text for notice in plan.notices if notice.key == key), "")


def test_the_architectures_are_those_that_the_installed_liger_lists() -> None:
    spec = importlib.util.find_spec("liger_kernel")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "transformers" / "monkey_patch.py").read_text(encoding="utf-8")
    functions = re.findall(r"^    \"[\w.-]+\": apply_liger_kernel_to_\w+,$", source, re.MULTILINE)
    assert len(liger_settings()) == len(functions) > 40
    assert all(liger_settings().values())
    assert liger_settings()["llama"] == {
        "rope",
        "cross_entropy",
        "fused_linear_cross_entropy",
        "rms_norm",
        "swiglu",
    }


@pytest.mark.parametrize("override", ["kernels=liger", "kernels=auto", "train.use_liger_kernel=true"])
def test_liger_becomes_the_training_argument_and_is_said(override: str) -> None:
    plan = plan_of(override, hardware=GPU)
    assert uses_liger(plan)
    assert "up to rounding" in notice_about(plan, "kernels")


@pytest.mark.parametrize("overrides", [(), ("kernels=none",), ("train.use_liger_kernel=false",)])
def test_transformers_kernels_are_the_default(overrides: tuple[str, ...]) -> None:
    plan = plan_of(*overrides, hardware=GPU)
    assert not uses_liger(plan)
    assert notice_about(plan, "kernels") == ""


@pytest.mark.parametrize(
    ("overrides", "hardware", "reason"),
    [
        ([], CPU, "a CUDA GPU is needed"),
        (["model.config.model_type=bloom"], GPU, "liger-kernel has no kernels for bloom"),
        (["model.name_or_path=org/name", "model.tokenizer=bytes"], GPU, "not known before the model"),
        (["compile=torch"], GPU, "the whole model is compiled"),
    ],
)
def test_auto_says_why_it_does_not_choose_liger(
    overrides: list[str], hardware: Hardware, reason: str
) -> None:
    plan = plan_of("kernels=auto", *overrides, hardware=hardware)
    assert not uses_liger(plan)
    assert reason in notice_about(plan, "kernels")


def test_auto_without_the_package_chooses_transformers_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zpipe.facts.liger.find_spec", lambda name: None)
    plan = plan_of("kernels=auto", hardware=GPU)
    assert not uses_liger(plan)
    assert "not installed here" in notice_about(plan, "kernels")


@pytest.mark.parametrize("overrides", [("kernels=fused_loss",), ("kernels=auto", "compile=regional")])
def test_the_fused_loss_alone_turns_the_kernels_of_layers_off(overrides: tuple[str, ...]) -> None:
    plan = plan_of(*overrides, hardware=GPU)
    assert uses_liger(plan)
    switches = plan.training_arguments["liger_kernel_config"]
    assert switches == {"rms_norm": False, "rope": False, "swiglu": False}
    assert "fused loss replaces" in notice_about(plan, "kernels")


def test_compiled_layers_refuse_the_kernels_of_layers_and_the_fix_is_accepted() -> None:
    typed = ("compile=regional", "kernels=liger", "+train.liger_kernel_config.rope=true")
    (problem,) = problems_of(*typed, hardware=GPU)
    assert problem.key == "train.torch_compile"
    loss_alone, without = problem.fix.split(", or ")
    assert uses_liger(plan_of("compile=regional", *loss_alone.split()[:1], hardware=GPU))
    assert not plan_of(*typed, *without.split(), hardware=GPU).experiment.train.is_compiled


def test_switches_that_contradict_the_fused_loss_are_refused_and_the_fixes_are_accepted() -> None:
    for typed in ("rope=true", "fused_linear_cross_entropy=false"):
        overrides = ("kernels=fused_loss", f"+train.liger_kernel_config.{typed}")
        (problem,) = problems_of(*overrides, hardware=GPU)
        assert problem.key == f"train.liger_kernel_config.{typed.partition('=')[0]}"
        for fix in problem.fix.split(", or "):
            assert uses_liger(plan_of(*overrides, fix, hardware=GPU))


def test_run_with_one_kernel_off_is_not_one_with_the_fused_loss_alone() -> None:
    switch = "+train.liger_kernel_config.rope=false"
    before, after = (plan_of(f"kernels={each}", switch, hardware=GPU) for each in ("liger", "fused_loss"))
    (problem,) = result_changes(before, after)
    assert problem.key == "kernels" and problem.fix.startswith("kernels=liger, or")


def test_the_memory_of_a_fused_loss_without_the_layers_lies_between() -> None:
    def peak(*overrides: str) -> int:
        plan = plan_of("model=llama3_1b", "batch.per_device_train_batch_size=8", *overrides, hardware=GPU)
        assert plan.memory is not None and plan.memory.gpu is not None
        return plan.memory.gpu.allocated.total

    liger, loss, none = (peak(f"kernels={option}") for option in ("liger", "fused_loss", "none"))
    assert liger < loss < none
    assert peak("kernels=fused_loss", "compile=regional") == pytest.approx(liger, rel=0.01)
    assert peak("kernels=fused_loss", "compile=regional", "stage=3") > peak("kernels=liger", "stage=3")


def test_compiled_layers_are_told_of() -> None:
    plan = plan_of("compile=regional", hardware=GPU)
    assert "in place of DeepSpeed's engine.compile" in notice_about(plan, "compile.regional")


def test_regional_compilation_is_no_key_of_the_json() -> None:
    plan = plan_of("compile=regional")
    assert plan.training_arguments["torch_compile"] is True
    assert "compile" not in plan.ds_config


def test_a_run_goes_on_if_the_same_kernels_are_chosen_in_another_way() -> None:
    before, after = (plan_of(each, hardware=GPU) for each in ("train.use_liger_kernel=true", "kernels=auto"))
    assert list(result_changes(before, after)) == []
    (problem,) = result_changes(before, plan_of("kernels=none", hardware=GPU))
    assert problem.key == "kernels" and problem.fix.startswith("kernels=liger, or")


@pytest.mark.parametrize("backend", ["cudnn", "flash", "math"])
def test_a_named_attention_kernel_is_said(backend: str) -> None:
    plan = plan_of(f"kernels.sdpa_backend={backend}", hardware=GPU)
    assert backend in notice_about(plan, "kernels.sdpa_backend")


def test_the_code_of_a_kernel_of_the_hub_is_warned_of() -> None:
    plan = plan_of("model.attn_implementation=kernels-community/flash-attn2@v1", hardware=GPU)
    assert "runs its code" in notice_about(plan, "model.attn_implementation")


def test_tf32_says_what_it_rounds() -> None:
    assert "10 bits" in notice_about(plan_of("precision=tf32", hardware=GPU), "precision")
