"""Values of text keys that Hydra's grammar cannot read are taken as they are; MLflow's variables are used."""

import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import ComposedRun, compose_once
from zpipe.compose.overrides import given_overrides, rewrite
from zpipe.hydra_text import quoted
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal

CPU = Hardware(gpus=(), cores=2, memory=2**34)


def composed(*overrides: str) -> ComposedRun:
    return compose_once(rewrite(overrides))


def plan(*overrides: str) -> Plan:
    one = composed(*overrides)
    return compile_plan(one.experiment, Path("/runs/one"), list(overrides), CPU, one.provenance)


@pytest.mark.parametrize(
    "text",
    ["日本語", "a (b)", "it's: x=y", 'say "hi"', "Ж\\", "100%! 한국어", "a=b", "ends'", "back\\'slash ü"],
)
def test_any_text_is_the_value_of_a_text_key(text: str) -> None:
    assert composed(f"tracking.run_name={text}").experiment.tracking.run_name == text
    assert composed(f"launcher.env.NAME={text}").experiment.launcher.env["NAME"] == text


def test_text_with_conditions_is_text_too() -> None:
    one = composed("launcher=slurm", "launcher.slurm.constraint=ib&nvme|(a|b)*2")
    assert one.experiment.launcher.slurm.constraint == "ib&nvme|(a|b)*2"


def test_a_text_with_a_comma_can_be_quoted_instead_of_swept() -> None:
    with pytest.raises(Refusal) as refusal:
        composed("launcher=slurm", "launcher.slurm.mail_type=END,FAIL")
    (problem,) = refusal.value.problems
    _, fix = problem.fix.split(", or ")
    one = composed("launcher=slurm", *shlex.split(fix))
    assert one.experiment.launcher.slurm.mail_type == "END,FAIL"


@pytest.mark.parametrize("text", ["x", "'", "\\", "\\'", "a\\\\'b", "", "${x}"])
def test_quoted_text_is_read_back_by_hydra(text: str) -> None:
    value = OverridesParser.create().parse_override(f"a={quoted(text)}").value()
    assert getattr(value, "text", value) == text


def test_text_that_may_be_a_sweep_is_refused_with_both_exact_overrides() -> None:
    with pytest.raises(Refusal) as caught:
        rewrite(["data.path=日,本"])
    (problem,) = caught.value.problems
    one, several = (shlex.split(form)[0] for form in problem.fix.split(" or "))
    assert OverridesParser.create().parse_override(one).value() == "日,本"
    assert OverridesParser.create().parse_override(several).is_sweep_override()


def test_a_number_that_cannot_be_read_is_not_taken_as_text() -> None:
    with pytest.raises(Refusal):
        rewrite(["train.max_steps=(3"])


def test_overrides_are_recorded_as_typed_not_as_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME_OF_RUN", "resolved")
    one = composed(
        "tracking.run_name=${oc.env:NAME_OF_RUN}", "hydra.run.dir=runs/${hydra.job.override_dirname}"
    )
    assert one.experiment.tracking.run_name == "resolved"
    hydra, task = given_overrides(one.config.hydra)
    assert "tracking.run_name=${oc.env:NAME_OF_RUN}" in task
    assert "hydra.run.dir=runs/${hydra.job.override_dirname}" in hydra


def test_mlflow_variables_are_the_defaults_of_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine ${x}")
    tracking = composed().experiment.tracking
    assert (tracking.uri, tracking.experiment) == ("http://tracking:5000", "mine ${x}")
    typed = composed("tracking.uri=sqlite:///a.db", "tracking.experiment=typed")
    assert (typed.experiment.tracking.uri, typed.experiment.tracking.experiment) == (
        "sqlite:///a.db",
        "typed",
    )
    (source, *_) = composed().provenance.experiment["tracking.uri"][::-1]
    assert "MLFLOW_TRACKING_URI" in source.source


def test_empty_mlflow_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    assert (composed().experiment.tracking.uri, composed().experiment.tracking.experiment) == (None, "zpipe")


@pytest.mark.parametrize(
    "name", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_NESTED_RUN", "MLFLOW_TAGS"]
)
def test_unused_mlflow_variables_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert any(name in notice.text for notice in plan().notices)
    assert not any(name in notice.text for notice in plan("tracking=none").notices)


@pytest.mark.parametrize("name", ["''", "'  '", "x" * 501])
def test_experiment_names_that_mlflow_refuses_are_refused(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        plan(f"tracking.experiment={name}")
    assert caught.value.problems[0].key == "tracking.experiment"
    plan(f"tracking.experiment={name}", "tracking=none")


PATH_KEYS = (
    ("data.path",),
    ("model.name_or_path",),
    ("model.tokenizer",),
    ("resume.checkpoint",),
    ("recipe",),
    ("stage=3", "offload=nvme", "offload.nvme_path"),
    ("launcher=deepspeed", "launcher.hostfile"),
    ("checkpoint.node_local=true", "checkpoint.node_local_path"),
)


@pytest.mark.parametrize("overrides", PATH_KEYS, ids=lambda overrides: overrides[-1])
def test_a_path_below_the_home_of_an_unknown_user_is_a_path_like_others(overrides: tuple[str, ...]) -> None:
    *others, key = overrides
    with suppress(Refusal):
        plan(*others, f"{key}=~no-such-user/x")
