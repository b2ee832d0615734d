"""An imported DeepSpeed JSON compiles to its equivalent, and every difference is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.equivalence import ONE_GPU, differences
from tests.support.importing import import_, unnamed, written
from tests.support.planning import plan_of
from zpipe.converters.importer import import_files
from zpipe.problems import Refusal

ZERO3 = {
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": False, "ratio": 0.5},
        "offload_param": {"device": "none", "pin_memory": True},
        "stage3_prefetch_bucket_size": 1e7,
        "stage3_gather_16bit_weights_on_model_save": True,
        "leaf_module": {"classes": ["MoE"]},
    },
    "bf16": {"enabled": True, "check_grad_overflow": True},
    "fp16": {"enabled": False, "initial_scale_power": 12},
    "optimizer": {
        "type": "adamw",
        "params": {"lr": 1e-4, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1},
    },
    "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 2000, "cos_min_ratio": 0.05}},
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 8,
    "gradient_clipping": 0.5,
    "communication_data_type": "bf16",
    "flops_profiler": {"enabled": True, "profile_step": 3},
    "comms_logger": {"enabled": False, "verbose": True},
    "checkpoint": {"tag_validation": "FAIL"},
    "data_types": {"grad_accum_dtype": "fp32"},
    "tensorboard": {"enabled": True, "output_path": "logs, of mine", "job_name": 'a"b'},
}
ZERO2 = {
    "zero_optimization": {"stage": 2, "cpu_offload": True, "allgather_bucket_size": 5e8},
    "fp16": {"enabled": True, "initial_scale_power": 12, "hysteresis": 4},
    "optimizer": {
        "type": "Adam",
        "params": {"lr": 1e-3, "weight_decay": 0.01, "betas": "auto", "eps": "auto"},
    },
    "train_batch_size": 16,
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 4,
}


@pytest.mark.parametrize("config", [ZERO3, ZERO2], ids=["zero3", "zero2"])
def test_import_compiles_to_an_equivalent_json(config: dict[str, Any], tmp_path: Path) -> None:
    imported = import_files([written(tmp_path, config)])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, "train.max_steps=2000", hardware=ONE_GPU)
    modern = json.loads(json.dumps(config))
    if modern["zero_optimization"].pop("cpu_offload", False):
        modern["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    modern["optimizer"]["type"] = modern["optimizer"]["type"].replace("adamw", "AdamW")
    assert unnamed(differences(modern, plan), imported) == {}


@pytest.mark.parametrize("config", [ZERO3, ZERO2], ids=["zero3", "zero2"])
def test_recipe_composes_the_same_experiment_as_overrides(config: dict[str, Any], tmp_path: Path) -> None:
    file, recipe = written(tmp_path, config), tmp_path / "imported.yaml"
    assert import_([str(file), "--recipe", str(recipe)]) == 0
    assert recipe.read_text().startswith(
        f"# python -m zpipe recipe={recipe}\n# Imported from ds_config.json.\n"
    )
    longer = "train.max_steps=2000"
    by_overrides = plan_of(*import_files([file]).overrides, longer, hardware=ONE_GPU)
    assert plan_of(f"recipe={recipe}", longer, hardware=ONE_GPU).experiment == by_overrides.experiment


def reimported(plan_json: dict[str, Any], folder: Path) -> dict[str, Any]:
    imported = import_files([written(folder, plan_json)], ["model=tiny"])
    assert imported.findings == ()
    return plan_of(*imported.overrides, hardware=ONE_GPU).ds_config


@pytest.mark.parametrize(
    "overrides",
    [
        ("stage=3", "offload=cpu", "precision=fp16"),
        ("stage=2", "precision=bf16", "scheduler=warmup_decay", "optimizer=lion"),
        (
            "stage=1",
            "precision=fp32",
            "optimizer=sgd",
            "optimizer.params.momentum=0.9",
            "scheduler=one_cycle",
        ),
        ("stage=0", "precision=bf16", "optimizer=adam", "profiler=flops"),
        ("stage=3", "precision=bf16", "optimizer=muon", "stage.reduce_scatter=false"),
    ],
    ids=" ".join,
)
def test_compiled_json_survives_the_round_trip(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = plan_of(*overrides, hardware=ONE_GPU).ds_config
    assert reimported(config, tmp_path) == config


BAD: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"zero_optimization": {"stage": 2, "overlap_com": True}},
        "zero_optimization.overlap_com",
        "refuses it",
        "zero_optimization.overlap_comm",
    ),
    (
        {"zero_optimization": {"stage": 1, "gradient_clipping": 1}},
        "zero_optimization.gradient_clipping",
        "wrong block",
        "top level",
    ),
    ({"optimizer": {"params": {"lr": 1e-3}}}, "optimizer.type", "ignores the whole block", '"type"'),
    (
        {"optimizer": {"type": "OneBitAdam", "params": {"lr": "auto"}}},
        "optimizer.type",
        "removed",
        "optimizer=adamw",
    ),
    (
        {"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}},
        "optimizer.params.max_grad_norm",
        "clipping",
        "train.max_grad_norm=1.0",
    ),
    (
        {"zero_optimization": {"stage": 3, "mics_shard_size": 8}},
        "zero_optimization.mics_shard_size",
        "MiCS",
        "zeropp=hpz",
    ),
    (
        {"zero_optimization": {"stage": 2, "sub_group_size": "auto"}},
        "zero_optimization.sub_group_size",
        "neither transformers nor accelerate fills in auto",
        "",
    ),
    ({"zero_optimization": True}, "zero_optimization", "a block is expected", '{"stage": 1}'),
    ({"zero_optimization": {"stage": 5}}, "zero_optimization.stage", "no such stage", ""),
    (
        {"zero_optimization": {"stage": 2, "reduce_bucket_size": -1}},
        "zero_optimization.reduce_bucket_size",
        "not a valid",
        "",
    ),
    (
        {"fp16": {"enabled": True}, "bf16": {"enabled": True}, "zero_optimization": {"stage": 1}},
        "fp16.enabled",
        "together",
        "",
    ),
    (
        {"gradient_clipping": "auto", "gradient_allreduce_op": "auto"},
        "gradient_allreduce_op",
        "neither transformers nor accelerate fills in auto",
        "",
    ),
]


@pytest.mark.parametrize(("config", "key", "reason", "fix"), BAD, ids=[f"{row[1]}: {row[2]}" for row in BAD])
def test_bad_key_is_reported_with_its_reason(
    config: dict[str, Any], key: str, reason: str, fix: str, tmp_path: Path
) -> None:
    findings = import_files([written(tmp_path, config)]).findings
    (problem,) = [each.problem for each in findings if each.problem.key == key]
    assert reason in problem.reason
    assert fix in problem.fix + problem.allowed


@pytest.mark.parametrize("enabled", [True, "true", "True", 1, "on"])
def test_precision_is_on_for_every_value_that_deepspeed_reads_as_true(enabled: Any, tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": enabled}}
    imported = import_files([written(tmp_path, config)])
    assert imported.findings == ()
    assert imported.options["precision"] == "bf16"


def test_non_boolean_precision_switch_is_refused(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": "perhaps"}}
    (finding,) = import_files([written(tmp_path, config)]).findings
    assert (finding.problem.key, finding.problem.allowed) == ("bf16.enabled", "true, false or auto")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("{", "line 1, column 2"),
        ("", "line 1, column 1"),
        ("[1, 2]", "not a mapping"),
        ("# comment\n{}", "line 1, column 1"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_unreadable_json_is_refused_with_line_and_column(text: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=place):
        import_files([written(tmp_path, text)])


def test_comma_errors_and_other_problems_are_reported_together(tmp_path: Path) -> None:
    lines = ['{"zero_optimization": {"stage": 1,},', '"gradient_clipping": 1.0', '"gradient_cliping": 2,']
    lines += ['"steps_per_print": 1', '"steps_per_print": 2', "}"]
    text = "\n".join(lines)
    imported = import_files([written(tmp_path, text)])
    assert [each.problem.key for each in imported.findings] == [
        "ds_config.json, line 1, column 34",
        "ds_config.json, line 2, column 25",
        "ds_config.json, line 4, column 21",
    ]
    assert any(note.key == "steps_per_print" and "appears twice" in note.reason for note in imported.notes)


ODD: list[Any] = [None, True, -1, 1e400, "", "auto", "${oops}", "[1", "=", [], [1, "a"], {}, {"a": 1}, 10**30]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_do_not_crash_the_import(value: Any, tmp_path: Path) -> None:
    places = [
        "zero_optimization",
        "optimizer",
        "fp16",
        "train_batch_size",
        "zero",
        "activation_checkpointing",
    ]
    inner = {"stage": value, "offload_optimizer": value, "reduce_bucket_size": value, "aio": value}
    files = [
        written(tmp_path, dict.fromkeys(places, value), "blocks.json"),
        written(
            tmp_path,
            {"zero_optimization": inner, "scheduler": {"type": value, "params": value}},
            "inner.json",
        ),
        written(tmp_path, {"distributed_type": "DEEPSPEED", "deepspeed_config": value}, "accelerate.json"),
        written(
            tmp_path, {"learning_rate": value, "optim": value, "seed": 1, "bf16": value}, "arguments.json"
        ),
    ]
    for file in files:
        import_files([file], fix=True)


def test_range_test_starts_at_deepspeeds_default(tmp_path: Path) -> None:
    config = {
        "zero_optimization": {"stage": 1},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}},
        "scheduler": {"type": "LRRangeTest", "params": {"lr_range_test_step_size": 10}},
    }
    overrides = import_files([written(tmp_path, config)]).overrides
    params = plan_of(*overrides, hardware=ONE_GPU).ds_config["scheduler"]["params"]
    assert params["lr_range_test_min_lr"] == 1e-3


def test_warmup_steps_of_the_json_are_kept(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "zero_optimization": {"stage": 2},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-5}},
        "scheduler": {
            "type": "WarmupDecayLR",
            "params": {"warmup_max_lr": 3e-5, "warmup_num_steps": 500, "total_num_steps": 2000},
        },
    }
    imported = import_files([written(tmp_path, config)])
    assert imported.findings == ()
    params = plan_of(*imported.overrides, "train.max_steps=2000", hardware=ONE_GPU).ds_config["scheduler"][
        "params"
    ]
    assert {name: params[name] for name in config["scheduler"]["params"]} == config["scheduler"]["params"]
