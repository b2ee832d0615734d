"""Overrides are rewritten into Hydra's form, and unknown names are refused."""

import shlex
from pathlib import Path

import pytest

from tests.support.planning import plan_of, problems_of
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import as_typed, rewrite
from zpipe.problems import Refusal


@pytest.mark.parametrize(
    ("typed", "rewritten"),
    [
        ("stage=3", "stage='3'"),
        ("stage='3'", "stage='3'"),
        ("stage=2,3", "stage='2','3'"),
        ("stage=choice(0,3)", "stage='0','3'"),
        ("stage=range(1,4)", "stage='1','2','3'"),
        ("offload=none,cpu", "offload='none','cpu'"),
        ("stage.reduce_bucket_size=5e7,2e8,5e8", "stage.reduce_bucket_size=5e7,2e8,5e8"),
        ("train.learning_rate=interval(1e-5,1e-3)", "train.learning_rate=interval(1e-5,1e-3)"),
        ("recipe=null", "~recipe"),
        ("hydra/launcher=joblib", "hydra/launcher=joblib"),
        ("hydra.run.dir=/tmp/x", "hydra.run.dir=/tmp/x"),
        ("hydra.run.dir=runs/lr=1e-4", "hydra.run.dir='runs/lr=1e-4'"),
        ("hydra.run.dir=run(1)", "hydra.run.dir='run(1)'"),
        ("model.config.num_hidden_layers=2", "++model.config.num_hidden_layers=2"),
        ("launcher.env={A: x}", "++launcher.env={A: x}"),
    ],
)
def test_override_is_rewritten_into_hydras_form(typed: str, rewritten: str) -> None:
    assert rewrite([typed]) == [rewritten]


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
@pytest.mark.parametrize("typed", ["~/runs/one", "'~/runs/one'"])
def test_folder_of_a_run_may_begin_with_the_home_folder(key: str, typed: str) -> None:
    assert rewrite([f"{key}={typed}"]) == [f"{key}='{Path.home() / 'runs' / 'one'}'"]


@pytest.mark.parametrize("typed", ["stage=3", "offload=nvme", "model.config.vocab_size=300", "train.seed=1"])
def test_as_typed_restores_the_override(typed: str) -> None:
    assert as_typed(rewrite([typed])[-1]) == typed


@pytest.mark.parametrize("typed", ["model.name_or_path=/m", "data.path=/d.jsonl"])
def test_path_implies_its_option(typed: str) -> None:
    option = {"model": "model=pretrained", "data": "data=files"}[typed.split(".")[0]]
    assert rewrite([typed]) == [option, typed]


def test_chosen_option_is_not_replaced() -> None:
    assert rewrite(["model=tiny", "model.name_or_path=/m"])[0] == "model='tiny'"


@pytest.mark.parametrize("value", ["glob(*)", "shuffle(2,3)", "shuffle(range(1,4))", "choice(1,2)"])
def test_numeric_options_are_quoted_in_every_kind_of_sweep(value: str) -> None:
    (rewritten,) = rewrite([f"stage={value}"])
    options = rewritten.removeprefix("stage=").split(",")
    every = [*"0123", "auto"]
    expected = {"glob(*)": every, "shuffle(2,3)": "23", "shuffle(range(1,4))": "123", "choice(1,2)": "12"}
    assert sorted(options) == [f"'{option}'" for option in expected[value]]


def test_sweep_cannot_omit_a_group() -> None:
    with pytest.raises(Refusal, match="zeropp=null: a sweep cannot omit a group"):
        rewrite(["zeropp=null,hpz"])


@pytest.mark.parametrize(
    ("typed", "key", "fix"),
    [
        ("stge=3", "stge", "stage=3"),
        ("offload=nvm", "offload", "offload=nvme"),
        ("stage.reduce_buket_size=1", "stage.reduce_buket_size", "stage.reduce_bucket_size=1"),
        ("precision=bf61", "precision", "precision=bf16"),
        ("train.learning_rte=1e-4", "train.learning_rte", "train.learning_rate=1e-4"),
        ("learning_rate=1e-4", "learning_rate", "train.learning_rate=1e-4"),
        ("train.save_steps=10", "train.save_steps", "checkpoint.save_steps=10"),
        ("train.warmup_ratio=0.1", "train.warmup_ratio", ""),
        ("recipe=zero3_nvm", "recipe", "recipe=zero3_nvme"),
        ("launcher.envs.A=1", "launcher.envs.A", "launcher.env.A=1"),
    ],
)
def test_unknown_name_is_refused_with_a_suggestion(typed: str, key: str, fix: str) -> None:
    (problem,) = problems_of(typed)
    assert problem.key == key
    assert fix in problem.fix


@pytest.mark.parametrize("typed", ['tracking.run_name="a\udcff"', "model=\udcff", "\udcff"])
def test_bytes_that_are_not_text_are_refused(typed: str) -> None:
    with pytest.raises(Refusal, match="not UTF-8") as refused:
        rewrite([typed])
    str(refused.value).encode()


def test_all_unknown_names_are_reported_together() -> None:
    problems = problems_of("stge=3", "offload=nvm", "stage.reduce_buket_size=1")
    assert [problem.key for problem in problems] == ["stge", "offload", "stage.reduce_buket_size"]


def test_unknown_option_is_refused_inside_a_sweep() -> None:
    with pytest.raises(Refusal, match=r"stage=5: no such option"):
        rewrite(["stage=2,5"])


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("stage.overlap_comm=maybe", "stage.overlap_comm"),
        ("train.max_steps=many", "train.max_steps"),
        ("stage.reduce_bucket_size=0", "stage.reduce_bucket_size"),
        ("stage.reduce_bucket_size=true", "stage.reduce_bucket_size"),
        ("train.adam_beta1=1.5", "train.adam_beta1"),
        ("precision.dtype=int8", "precision.dtype"),
    ],
)
def test_invalid_value_is_refused(typed: str, key: str) -> None:
    (problem,) = problems_of(typed)
    assert problem.key == key
    assert problem.allowed
    assert problem.fix.startswith(f"{key}=")


@pytest.mark.parametrize(
    "typed",
    [
        "train.adam_beta1=1.5",
        "train.learning_rate=inf",
        "tracking.experiment=5",
        "stage.leaf_module.classes=Foo",
        "train.seed=x",
        "train.gradient_checkpointing=3",
    ],
)
def test_fix_for_an_invalid_value_is_accepted(typed: str) -> None:
    (problem,) = problems_of(typed)
    assert problem.fix
    assert "not a valid value" not in {each.reason for each in problems_of(*shlex.split(problem.fix))}


@pytest.mark.parametrize("typed", ["train=null", "train.gradient_checkpointing_kwargs=1"])
def test_no_fix_is_proposed_without_a_plausible_value(typed: str) -> None:
    (problem,) = problems_of(typed)
    assert problem.fix == ""
    assert problem.allowed


def test_several_values_without_m_are_refused() -> None:
    (problem,) = problems_of("stage=2,3")
    assert (problem.key, problem.value, problem.fix) == ("stage", "2,3", "-m stage=2,3")


def test_exponent_form_is_read_as_a_whole_number() -> None:
    plan = plan_of("stage.reduce_bucket_size=5e7")
    assert plan.ds_config["zero_optimization"]["reduce_bucket_size"] == 50_000_000


@pytest.mark.parametrize(
    ("typed", "reason", "fix"),
    [
        ("hydra/launcher=joblb", "its plugin is not installed", "hydra/launcher=joblib"),
        ("hydra/sweper=optuna", "no such group of Hydra", "hydra/sweeper=optuna"),
        ("hydra.jobb.name=x", "no such key of Hydra", "hydra.job.name=x"),
        ("+hydra.run.dirr=x", "no such key of Hydra", "hydra.run.dir=x"),
        ("hydra.sweeper.wibble=1", "the chosen hydra/sweeper does not have it", "zpipe --cfg hydra"),
        ("~stagee", "cannot be left out", "~stage"),
    ],
)
def test_unknown_name_of_hydra_is_refused_truthfully(typed: str, reason: str, fix: str) -> None:
    with pytest.raises(Refusal) as refused:
        compose_once(rewrite([typed]))
    (problem,) = refused.value.problems
    assert reason in problem.reason
    assert problem.fix.startswith(fix)
