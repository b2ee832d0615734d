"""TrainingArguments and accelerate configurations are imported as those libraries interpret them."""

import json
import shlex
from pathlib import Path

from tests.support.equivalence import ONE_GPU, differences
from tests.support.importing import GUIDE, import_, named, unnamed, written
from tests.support.planning import plan_of
from zpipe.converters.importer import import_files
from zpipe.converters.reading import read
from zpipe.converters.resolve_optimizing import LR_RANGE_TEST_MIN_LR, WARMUP_NUM_STEPS
from zpipe.converters.writing import command_line

ARGUMENTS = """
output_dir: out
deepspeed: zero3.json
bf16: true
learning_rate: 3e-4
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
max_grad_norm: 0.3
max_steps: 50
warmup_steps: 5
save_strategy: no
lr_scheduler_type: cosine
report_to: wandb
gradient_checkpointing: true
"""


def test_training_arguments_fill_auto_in_their_json(tmp_path: Path) -> None:
    written(tmp_path, read(GUIDE / "notebook.json")[0], "zero3.json")
    arguments = written(tmp_path, ARGUMENTS, "arguments.yaml")
    imported = import_files([arguments])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    original = read(GUIDE / "notebook.json")[0]
    assert unnamed(differences(original, plan), imported) == {}
    assert plan.ds_config["bf16"]["enabled"] is True
    assert plan.ds_config["train_batch_size"] == 8
    assert plan.ds_config["gradient_clipping"] == 0.3
    assert plan.ds_config["scheduler"]["params"]["warmup_max_lr"] == 3e-4
    assert plan.experiment.checkpoint.save_strategy == "no"
    assert {"report_to", "lr_scheduler_type", "output_dir"} <= named(imported)


def test_contradiction_between_arguments_and_json_is_reported(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 1}, "gradient_accumulation_steps": 8}
    arguments = written(
        tmp_path,
        {"gradient_accumulation_steps": 4, "learning_rat": 1e-4, "seed": 1, "deepspeed": config},
        "args.json",
    )
    keys = {each.problem.key: each.problem for each in import_files([arguments]).findings}
    assert "contradicts gradient_accumulation_steps=4" in keys["gradient_accumulation_steps"].reason
    assert keys["learning_rat"].fix == "learning_rate"


def test_training_arguments_defaults_match_transformers() -> None:
    import dataclasses

    from transformers import TrainingArguments

    from zpipe.converters.training_arguments import DEFAULTS

    installed = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    assert {name: getattr(installed[name], "value", installed[name]) for name in DEFAULTS} == DEFAULTS


def test_written_deepspeed_defaults_match_deepspeed() -> None:
    import inspect

    from deepspeed.runtime import lr_schedules
    from deepspeed.runtime.config import ADAM_W_MODE_DEFAULT

    for kind in ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR"):
        parameters = inspect.signature(getattr(lr_schedules, kind)).parameters
        assert parameters["warmup_num_steps"].default == WARMUP_NUM_STEPS
    range_test = inspect.signature(lr_schedules.LRRangeTest).parameters
    assert range_test["lr_range_test_min_lr"].default == LR_RANGE_TEST_MIN_LR
    assert ADAM_W_MODE_DEFAULT is True


ACCELERATE = """
compute_environment: LOCAL_MACHINE
debug: false
deepspeed_config:
  gradient_accumulation_steps: 4
  gradient_clipping: 0.7
  offload_optimizer_device: cpu
  offload_param_device: none
  zero3_init_flag: true
  zero3_save_16bit_model: true
  zero_stage: 3
distributed_type: DEEPSPEED
downcast_bf16: 'no'
machine_rank: 0
main_training_function: main
mixed_precision: bf16
num_machines: 1
num_processes: 4
use_cpu: false
"""


def test_accelerate_configuration_compiles_to_its_plugins_json(tmp_path: Path) -> None:
    from accelerate.utils import DeepSpeedPlugin

    imported = import_files([written(tmp_path, ACCELERATE, "accelerate.yaml")])
    assert imported.findings == ()
    overrides = [each for each in imported.overrides if not each.startswith("launcher.nproc_per_node")]
    plan = plan_of(*overrides, hardware=ONE_GPU)
    plugin = DeepSpeedPlugin(
        zero_stage=3,
        gradient_accumulation_steps=4,
        gradient_clipping=0.7,
        offload_optimizer_device="cpu",
        offload_param_device="none",
        zero3_save_16bit_model=True,
    )
    theirs = {**plugin.deepspeed_config, "bf16": {"enabled": True}}
    theirs["zero_optimization"].pop("offload_param")
    theirs["zero_optimization"]["offload_optimizer"].pop("nvme_path")
    remaining = unnamed(differences(theirs, plan), imported)
    assert remaining.keys() <= {"steps_per_print"}
    assert "launcher.nproc_per_node=4" in imported.overrides


def test_accelerate_configuration_may_name_a_json_in_its_folder(tmp_path: Path) -> None:
    written(tmp_path, {"zero_optimization": {"stage": 2}}, "zero.json")
    plugin = {"deepspeed_config_file": "zero.json", "zero_stag": 1}
    text = json.dumps({"distributed_type": "DEEPSPEED", "num_processes": 1, "deepspeed_config": plugin})
    imported = import_files([written(tmp_path, text, "a.yaml")])
    assert [each.problem.key for each in imported.findings] == ["deepspeed_config.zero_stag"]
    assert imported.options["stage"] == "2"


def test_keys_for_other_kinds_of_training_are_notes(tmp_path: Path) -> None:
    other = {"fsdp_config": {"fsdp_version": 2}, "tpu_name": "t", "parallelism_config": {"x_sp_size": 1}}
    text = {"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 1}, **other}
    imported = import_files([written(tmp_path, text, "a.json")])
    assert imported.findings == ()
    assert {"fsdp_config", "tpu_name"} <= named(imported)
    text["parallelism_config"] = {"x_sp_size": 2}
    (finding,) = import_files([written(tmp_path, text, "b.json")]).findings
    assert finding.problem.key == "parallelism_config"
    (finding,) = import_files([written(tmp_path, {**text, "distributed_type": "FSDP"}, "c.json")]).findings
    assert finding.problem.key == "distributed_type"


def test_missing_json_is_refused_with_what_to_add(tmp_path: Path) -> None:
    plugin = {"deepspeed_config_file": "configs/zero.json"}
    text = json.dumps({"distributed_type": "DEEPSPEED", "num_machines": 2, "deepspeed_config": plugin})
    file = written(tmp_path, text, "a.yaml")
    problems = {each.problem.key: each.problem for each in import_files([file]).findings}
    assert problems.keys() == {"deepspeed_config.deepspeed_config_file", "num_machines"}
    assert "PATH/zero.json" in problems["deepspeed_config.deepspeed_config_file"].fix
    (tmp_path / "elsewhere").mkdir()
    other = written(tmp_path / "elsewhere", {"zero_optimization": {"stage": 1}}, "zero.json")
    imported = import_files([file, other])
    assert [each.problem.key for each in imported.findings] == ["num_machines"]
    assert imported.options["stage"] == "1"


def test_named_json_is_found_from_a_folder_above_the_file(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "scripts").mkdir()
    written(tmp_path / "scripts", {"zero_optimization": {"stage": 1}}, "zero.json")
    plugin = {"deepspeed_config_file": "scripts/zero.json"}
    text = json.dumps({"distributed_type": "DEEPSPEED", "deepspeed_config": plugin})
    imported = import_files([written(tmp_path / "configs", text, "a.yaml")])
    assert imported.findings == ()
    assert imported.options["stage"] == "1"


def test_texts_and_mappings_are_imported_unchanged(tmp_path: Path) -> None:
    arguments = {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-6},
        "run_name": 'it\'s "mine", ${x} [1] \\',
        "warmup_ratio": 0.1,
    }
    file, recipe = written(tmp_path, arguments, "arguments.json"), tmp_path / "mine.yaml"
    assert import_([str(file), "--recipe", str(recipe)]) == 0
    by_line = plan_of(*shlex.split(command_line(import_files([file]).overrides))).experiment
    assert by_line == plan_of(f"recipe={recipe}").experiment
    assert by_line.tracking.run_name == arguments["run_name"]
    assert by_line.train.gradient_checkpointing_kwargs == {"use_reentrant": False}
    assert by_line.scheduler.lr_scheduler_kwargs == {"min_lr": 1e-6}
    assert by_line.train.warmup_steps == 0.1


def test_warmup_ratio_is_used_if_warmup_steps_is_zero(tmp_path: Path) -> None:
    file = written(tmp_path, {"warmup_ratio": 0.1, "warmup_steps": 0, "seed": 1}, "arguments.json")
    assert "train.warmup_steps=0.1" in import_files([file]).overrides


def test_missing_optim_means_transformers_default(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    file = written(tmp_path, {"learning_rate": 1e-4, "seed": 1}, "arguments.json")
    assert import_files([file]).options["optimizer"] == TrainingArguments.default_optim
