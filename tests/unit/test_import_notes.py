"""What the libraries accept, fill in or ignore is imported with a note."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.equivalence import ONE_GPU, differences
from tests.support.importing import unnamed, written
from tests.support.planning import CPU, V100, gpus, plan_of
from zpipe.converters.importer import import_files
from zpipe.converters.spellings import ZERO_NAMES

NOTED: list[tuple[dict[str, Any], str, str]] = [
    ({"zero_optimisation": {"stage": 2}}, "zero_optimisation", "ignores it"),
    ({"gradient_cliping": 1.0}, "gradient_cliping", "ignores it"),
    ({"_comment": "for 8 GPUs"}, "_comment", "ignores it"),
    ({"offload_optimizer": {"device": "cpu"}}, "offload_optimizer", "in the wrong block"),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": None}},
        "zero_optimization.offload_optimizer",
        "off",
    ),
    (
        {"zero_optimization": {"stage": 3, "max_live_parameters": 7}},
        "zero_optimization.max_live_parameters",
        "another name of stage3_max_live_parameters",
    ),
    ({"zero_optimization": {"stage": "auto"}}, "zero_optimization.stage", "accelerate fills in 2"),
    (
        {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": "auto"}},
        "zero_optimization.stage3_gather_16bit_weights_on_model_save",
        "accelerate fills in false",
    ),
    (
        {"torch_autocast": {"enabled": True, "dtype": "torch.bfloat16"}},
        "torch_autocast.dtype",
        "read as bfloat16",
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"last_batch_iteration": -1}}},
        "scheduler.params.last_batch_iteration",
        "left out",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu", "pin_memory": True}}},
        "zero_optimization.offload_param",
        "ignores parameter offload",
    ),
    (
        {
            "zero_optimization": {
                "stage": 2,
                "offload_param": {"device": "cpu"},
                "offload_optimizer": {"device": "cpu"},
            }
        },
        "zero_optimization.offload_param",
        "ignores parameter offload",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}},
        "zero_optimization.offload_optimizer.device",
        "host memory",
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "cosine"}}},
        "scheduler.params.warmup_type",
        "uses log for anything else",
    ),
    (
        {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 4000}}},
        "scheduler.params.total_num_steps",
        "train.max_steps is set to it",
    ),
    (
        {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}},
        "scheduler.params.warmup_max_lr",
        "peak of 0.001",
    ),
    (
        {"tensor_parallel": {"autotp_size": 2}, "zero_optimization": {"stage": 2}},
        "zero_optimization.stage3_gather_16bit_weights_on_model_save",
        "saved without its weights",
    ),
    (
        {"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 16}},
        "launcher.nproc_per_node",
        "accepted on 16 GPUs",
    ),
    (
        {"zero_optimization": {"stage": 1}, "optimizer": {"type": "Lamb", "params": {"lr": "auto"}}},
        "zero_allow_untested_optimizer",
        "DeepSpeed refuses Lamb",
    ),
    ({"data_types": {"grad_accum_dtype": "float32"}}, "data_types.grad_accum_dtype", "read as fp32"),
    ({"torch_autocast": {"enabled": True, "dtype": "bf16"}}, "torch_autocast.dtype", "read as bfloat16"),
    ({"bf16": {"enabled": "auto"}}, "bf16.enabled", "precision=auto"),
    ({"zero_optimization": {"stage": 1}}, "precision", "trains in fp32"),
]


@pytest.mark.parametrize(("config", "key", "reason"), NOTED, ids=[row[1] for row in NOTED])
def test_what_the_libraries_accept_or_ignore_is_a_note(
    config: dict[str, Any], key: str, reason: str, tmp_path: Path
) -> None:
    imported = import_files([written(tmp_path, config)])
    assert imported.findings == ()
    assert any(note.key == key and reason in note.reason for note in imported.notes)


def test_names_of_zero_fields_are_those_of_the_installed_deepspeed() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    fields = DeepSpeedZeroConfig.model_fields.items()
    renamed = {name: field.alias for name, field in fields if field.alias and field.alias != name}
    assert {name: renamed.get(name) for name in ZERO_NAMES} == ZERO_NAMES


def test_unsaved_weights_mean_that_no_model_is_saved(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}}
    imported = import_files([written(tmp_path, config)])
    assert "checkpoint.save_final_model=false" in imported.overrides


def test_precision_left_open_follows_the_machine(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}
    imported = import_files([written(tmp_path, config)])
    machines = {"bf16": ONE_GPU, "fp16": gpus(V100), "fp32": CPU}
    for dtype, machine in machines.items():
        enabled = plan_of(*imported.overrides, hardware=machine).ds_config
        assert {name for name in ("bf16", "fp16") if enabled[name]["enabled"]} == {dtype} - {"fp32"}
    (note,) = [note for note in imported.notes if note.value == "auto"]
    assert "precision=bf16" in note.fix


def test_precision_of_arguments_or_of_accelerate_is_not_left_open(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": "auto"}}
    written(tmp_path, config, "ds.json")
    plugin = {"deepspeed_config_file": "ds.json"}
    for name, content in {
        "arguments.json": {"deepspeed": config, "learning_rate": 1e-4, "seed": 1},
        "accelerate.json": {
            "mixed_precision": "no",
            "deepspeed_config": plugin,
            "distributed_type": "DEEPSPEED",
        },
    }.items():
        assert import_files([written(tmp_path, content, name)]).options["precision"] == "fp32"


def test_ignored_keys_are_one_note(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 1}, "comment": "x", "num-layers": 2, "checkpoint-factor": 3}
    notes = import_files([written(tmp_path, config)]).notes
    (note,) = [note for note in notes if "comment" in note.key]
    assert (note.key, note.fix) == ("comment, num-layers, checkpoint-factor", "")


@pytest.mark.parametrize("kind", ["AdamW", "Adam", "Lion"])
def test_optimizer_without_parameters_keeps_its_defaults_in_at_most_one_note(
    kind: str, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "zero_optimization": {"stage": 1},
        "optimizer": {"type": kind, "params": {"lr": "auto"}},
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": False},
    }
    imported = import_files([written(tmp_path, config)])
    assert unnamed(differences(config, plan_of(*imported.overrides, hardware=ONE_GPU)), imported) == {}
    assert [note.key for note in imported.notes] == []


def test_arguments_do_not_reach_an_optimizer_that_does_not_name_them(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 1}, "optimizer": {"type": "AdamW", "params": {"lr": "auto"}}}
    arguments = {
        "learning_rate": 1e-4,
        "weight_decay": 0.1,
        "adam_beta2": 0.95,
        "seed": 1,
        "deepspeed": config,
    }
    imported = import_files([written(tmp_path, arguments)])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert plan.ds_config["optimizer"]["params"] == {
        "lr": 1e-4,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    (note,) = [note for note in imported.notes if note.key.startswith("optimizer.")]
    assert "betas=[0.9, 0.999], weight_decay=0" in note.reason


def test_warmup_decay_without_a_peak_keeps_deepspeeds(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "zero_optimization": {"stage": 1},
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}},
        "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_num_steps": 5}},
        "bf16": {"enabled": True},
    }
    imported = import_files([written(tmp_path, config)])
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert plan.ds_config["scheduler"]["params"]["warmup_max_lr"] == 1e-3
    assert unnamed(differences(config, plan), imported) == {}
    own = import_files([written(tmp_path, config)], ["train.learning_rate=2e-4"])
    params = plan_of(*own.overrides, hardware=ONE_GPU).ds_config["scheduler"]["params"]
    assert params["warmup_max_lr"] == 2e-4


@pytest.mark.parametrize("micro", ["auto", None])
def test_total_batch_is_divided_whatever_the_default_model_sets(micro: str | None, tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "train_batch_size": 6, "gradient_accumulation_steps": 3}
    if micro is not None:
        config["train_micro_batch_size_per_gpu"] = micro
    plan = plan_of(*import_files([written(tmp_path, config)]).overrides, hardware=ONE_GPU)
    assert plan.ds_config["train_micro_batch_size_per_gpu"] == 2


def test_contents_decide_the_format(tmp_path: Path) -> None:
    text = '{"zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8}}'
    for name in ("a.conf", "b", "c.yaml", "d.json"):
        imported = import_files([written(tmp_path, text, name)])
        assert "stage.reduce_bucket_size=500000000" in imported.overrides
    yaml = "distributed_type: DEEPSPEED\nmixed_precision: bf16\ndeepspeed_config: {zero_stage: 1}\n"
    assert import_files([written(tmp_path, yaml, "accelerate.cfg")]).options["stage"] == "1"
