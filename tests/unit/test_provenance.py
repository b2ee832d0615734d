"""The recorded source of every value is correct."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hydra import compose as hydra_compose
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.support.options import default_options, experiment_of
from tests.support.planning import CPU, H200, gpus, plan_of
from zpipe.compile.compiler import compile_plan
from zpipe.compile.derivations import UNEXPLAINED
from zpipe.compose.compose import blocks_of, composing, provenance_of
from zpipe.compose.overrides import as_typed, rewrite
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import DEFAULT, Origin, Provenance
from zpipe.problems import Refusal
from zpipe.resources import CONF, RECIPES, config_groups
from zpipe.runfolder.plan_file import read_plan, write_plan
from zpipe.schema.experiment import defaults
from zpipe.trees import leaves, value_at

VALUES = (
    "stage.reduce_bucket_size=5e7",
    "stage.reduce_bucket_size=auto",
    "stage.overlap_comm=false",
    "stage.leaf_module.classes=[A,B]",
    "stage.leaf_module={names: [x]}",
    "offload.offload_optimizer.device=cpu",
    "offload.nvme_path=/tmp/swap",
    "train.learning_rate=1e-4",
    "train.learning_rate=3e-4",
    "train.max_steps=7",
    "train.max_steps=${data.max_length}",
    "train.gradient_checkpointing_kwargs={use_reentrant: false}",
    "model.config.num_hidden_layers=3",
    "model.config={hidden_size: 64, rope_scaling: {type: linear, factor: 2}}",
    "++model.config.rope_scaling.factor=4",
    "model.config.rope_scaling=null",
    "model.config.deep={a: {b: 1}}",
    "model.config.deep.a.c=2",
    "model.config.deep=null",
    "~model.config.vocab_size",
    "launcher.env.OMP_NUM_THREADS='2'",
    "launcher.env={A: x, B: y}",
    "tracking.run_name='a, b'",
    "data.path=null",
)
CHOICES = [
    f"{group}={option}"
    for group, options in config_groups().items()
    if group not in ("recipe", "model")  # most models lack the keys that VALUES delete
    for option in options
]
RECIPE_CHOICES = ["recipe=zero3_nvme", "recipe=llama3_1b_zero2", "model=llama3_1b", "model=tiny"]
OUTSIDE_THE_JSON = {"model", "data", "launcher", "tracking", "recipe"}
OVERRIDES = st.lists(st.sampled_from([*CHOICES, *RECIPE_CHOICES, *VALUES]), max_size=8, unique=True)


def composed(overrides: list[str]) -> tuple[dict[str, object], Provenance]:
    """The leaves of the experiment as Hydra composed them, unresolved, and the recorded sources."""
    with composing() as loader:
        config = hydra_compose("config", rewrite(overrides), return_hydra_config=True)
        blocks = OmegaConf.to_container(blocks_of(config), resolve=False)
        assert isinstance(blocks, dict)
        return dict(leaves(cast(Mapping[str, Any], blocks))), provenance_of(loader.recording)


@given(OVERRIDES)
@settings(max_examples=15, deadline=None)
def test_last_source_of_every_key_has_the_composed_value(overrides: list[str]) -> None:
    values, provenance = composed(overrides)
    default = dict(leaves(defaults()))
    for key, value in values.items():
        if key in provenance.experiment:
            assert provenance.experiment[key][-1].value == value, key
        else:
            assert default[key] == value, key
    assert set(provenance.experiment) <= set(values)
    typed = {as_typed(text) for text in rewrite(overrides)}
    for key, chain in provenance.experiment.items():
        files = [origin.source for origin in chain if origin.source not in (*typed, DEFAULT)]
        assert all(key.rpartition(".")[2] in (CONF.parent / file).read_text() for file in files), (key, files)


def test_chain_lists_replaced_values_oldest_first() -> None:
    provenance = plan_of("stage=3", "stage.reduce_bucket_size=1e6", "stage.reduce_bucket_size=5e7").provenance
    assert provenance.experiment["stage.reduce_bucket_size"] == [
        Origin(source=DEFAULT, value=None),
        Origin(source="conf/stage/3.yaml", value="auto"),
        Origin(source="stage.reduce_bucket_size=1e6", value=1e6),
        Origin(source="stage.reduce_bucket_size=5e7", value=5e7),
    ]


def test_mapping_that_replaces_null_records_the_null() -> None:
    overrides = ["model.config.deep={a: {b: 1}}", "model.config.deep=null", "model.config.deep.a.c=2"]
    experiment = composed(overrides)[1].experiment
    assert [origin.value for origin in experiment["model.config.deep.a.c"]] == [None, 2]
    assert "model.config.deep.a.b" not in experiment


def test_recipe_comes_between_options_and_overrides() -> None:
    chain = plan_of("recipe=zero3_nvme", "train.max_steps=9").provenance.experiment["train.max_steps"]
    sources = [origin.source for origin in chain]
    assert sources[1:] == ["conf/model/tiny.yaml", "recipes/zero3_nvme.yaml", "train.max_steps=9"]


def test_user_recipe_is_named_by_its_path(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text('defaults:\n  - override /stage: "3"\ntrain:\n  max_steps: 7\n')
    provenance = plan_of(f"recipe={recipe}").provenance
    assert provenance.experiment["train.max_steps"][-1].source == str(recipe)
    assert provenance.options["stage"].chosen_by == str(recipe)


@pytest.mark.parametrize(
    ("overrides", "chosen_by"),
    [
        ([], "conf/config.yaml"),
        (["stage=3"], "stage=3"),
        (["recipe=zero3_nvme"], "recipes/zero3_nvme.yaml"),
        (["recipe=zero3_nvme", "stage=3"], "stage=3"),
    ],
)
def test_option_records_what_chose_it(overrides: list[str], chosen_by: str) -> None:
    assert composed(overrides)[1].options["stage"].chosen_by == chosen_by


def test_every_json_key_has_an_experiment_key_or_a_rule() -> None:
    groups = config_groups()
    alone = [f"{group}={option}" for group in set(groups) - OUTSIDE_THE_JSON for option in groups[group]]
    pairs = [f"stage={stage} offload={offload}" for stage in (1, 3) for offload in groups["offload"]]
    compiled = 0
    for choices, hardware in itertools.product([*alone, *pairs], (CPU, gpus(H200, H200))):
        try:
            chosen = dict(choice.split("=") for choice in choices.split())
            plan = compile_plan(
                experiment_of({**default_options(), **chosen}, {}), Path("/runs/one"), [], hardware
            )
        except Refusal:
            continue
        compiled += 1
        assert_every_key_is_explained(plan)
    assert compiled > len(alone)


def assert_every_key_is_explained(plan: Plan) -> None:
    values = dict(leaves(plan.ds_config))
    assert set(plan.provenance.ds_config) == set(values)
    for key, derivation in plan.provenance.ds_config.items():
        assert derivation.rule != UNEXPLAINED.text, key
        if derivation.rule is None:
            assert value_at(plan.experiment, derivation.keys[0]) == values[key]


def test_derived_value_names_its_formula_and_keys() -> None:
    derivation = plan_of("stage=3").provenance.ds_config["zero_optimization.reduce_bucket_size"]
    assert "hidden_size x hidden_size" in str(derivation.rule)
    assert derivation.keys == ["stage.reduce_bucket_size", "model.config.hidden_size"]


def test_plan_file_has_sources_without_secrets(tmp_path: Path) -> None:
    plan = plan_of(
        "launcher.env.HF_TOKEN=abcsecret",
        "launcher.env={API_KEY: abcsecret, PLAIN: x}",
        "tracking.uri=http://me:abcsecret@host",
        run_dir=tmp_path,
    )
    write_plan(plan)
    text = (tmp_path / "plan.json").read_text()
    assert "abcsecret" not in text
    chain = read_plan(tmp_path).provenance.experiment["launcher.env.PLAIN"]
    assert json.loads(text)["provenance"]["experiment"]["launcher.env.PLAIN"][-1]["value"] == "***"
    assert chain[-1].source == "launcher.env=***"


def test_recorded_files_exist() -> None:
    provenance = plan_of("recipe=zero3_nvme").provenance
    for choice in provenance.options.values():
        assert (CONF.parent / choice.file).is_file()
    assert provenance.options["recipe"].file == f"{RECIPES.name}/zero3_nvme.yaml"
