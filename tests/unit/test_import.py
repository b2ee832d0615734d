"""What is imported compiles back to the same, and whatever is not the same has been named."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.equivalence import ONE_GPU, differences
from tests.support.planning import plan_of
from zpipe.cli import main
from zpipe.commands.import_ import import_
from zpipe.importing.importer import Imported, import_files
from zpipe.importing.reading import read
from zpipe.importing.settling import WARMUP_NUM_STEPS
from zpipe.importing.writing import command_line
from zpipe.problems import Refusal

GUIDE = Path(__file__).resolve().parents[1] / "inputs" / "guide"
CLEAN = ("zero1", "zero3", "notebook", "optimizer", "fp16", "fp32", "bf16", "batch", "accumulation")
CLEAN += ("clipping", "communication", "checkpoint", "untested")


def named(imported: Imported) -> set[str]:
    """Keys of the JSON that the import said something about."""
    return {note.key for note in imported.notes} | {each.problem.key for each in imported.findings}


def unnamed(different: dict[str, Any], imported: Imported) -> dict[str, Any]:
    names = named(imported)
    return {
        key: values
        for key, values in different.items()
        if not any(key == name or key.startswith(f"{name}.") for name in names)
    }


def written(folder: Path, content: Any, name: str = "ds_config.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize("name", CLEAN)
def test_configuration_of_the_guide_compiles_back_to_its_equivalent(name: str) -> None:
    file = GUIDE / f"{name}.json"
    imported = import_files([file])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert unnamed(differences(read(file)[0], plan), imported) == {}


def test_scheduler_of_the_guide_compiles_back_beside_its_optimizer() -> None:
    files = [GUIDE / "optimizer.json", GUIDE / "scheduler.json"]
    imported = import_files(files)
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    both = {**read(files[0])[0], **read(files[1])[0]}
    assert unnamed(differences(both, plan), imported) == {}
    assert plan.ds_config["scheduler"]["type"] == "WarmupDecayLR"


def test_first_mistake_of_the_guide_is_the_missing_comma() -> None:
    imported = import_files([GUIDE / "zero2.json"])
    (finding,) = imported.findings
    assert finding.problem.key == "zero2.json, line 13, column 37"
    assert finding.problem.reason == 'a comma is missing behind "contiguous_gradients": true'
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    assert unnamed(differences(read(GUIDE / "zero2.json")[0], plan), imported) == {}
    assert plan.ds_config["zero_optimization"]["round_robin_gradients"] is True


def test_second_mistake_of_the_guide_is_aio_inside_zero_optimization() -> None:
    imported = import_files([GUIDE / "nvme.json"])
    problems = {each.problem.key: each.problem for each in imported.findings}
    assert problems["zero_optimization.aio"].reason == "it is in the wrong block: DeepSpeed refuses it"
    assert problems["zero_optimization.aio"].allowed == "aio"
    assert "renamed" in problems["aio.thread_count"].reason
    assert "zero_optimization.sub_group_size" in problems


def test_nvme_configuration_of_the_guide_is_mended_and_nothing_else_differs() -> None:
    imported = import_files([GUIDE / "nvme.json"], ["model=tiny"], mend=True)
    assert all(finding.mended for finding in imported.findings)
    plan = plan_of(*imported.overrides, hardware=ONE_GPU)
    original = read(GUIDE / "nvme.json")[0]
    original["aio"] = original["zero_optimization"].pop("aio")
    assert unnamed(differences(original, plan), imported) == {}
    assert plan.ds_config["aio"]["queue_depth"] == 32


def test_amp_of_the_guide_is_named_as_removed() -> None:
    (finding,) = import_files([GUIDE / "amp.json"]).findings
    assert finding.problem.key == "amp"
    assert "removed" in finding.problem.reason
    assert "precision=bf16" in finding.problem.fix


@pytest.mark.parametrize(
    ("name", "key", "override"),
    [
        ("gather", "zero_optimization.stage3_gather_16bit_weights_on_model_save", "stage=3"),
        ("client_optimizer", "zero_force_ds_cpu_optimizer", ""),
    ],
)
def test_fragment_of_the_guide_that_says_nothing_alone_is_named(name: str, key: str, override: str) -> None:
    file = GUIDE / f"{name}.json"
    assert [each.problem.key for each in import_files([file]).findings] == [key]
    assert not override or import_files([file], [override]).findings == ()


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
def test_richer_configuration_compiles_back_to_its_equivalent(config: dict[str, Any], tmp_path: Path) -> None:
    imported = import_files([written(tmp_path, config)])
    assert imported.findings == ()
    plan = plan_of(*imported.overrides, "train.max_steps=2000", hardware=ONE_GPU)
    modern = json.loads(json.dumps(config))
    if modern["zero_optimization"].pop("cpu_offload", False):
        modern["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    modern["optimizer"]["type"] = modern["optimizer"]["type"].replace("adamw", "AdamW")
    assert unnamed(differences(modern, plan), imported) == {}


@pytest.mark.parametrize("config", [ZERO3, ZERO2], ids=["zero3", "zero2"])
def test_recipe_composes_the_same_experiment(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZPIPE_RECIPE_FOLDER", raising=False)
    file, recipe = written(tmp_path, config), tmp_path / "imported.yaml"
    assert import_([str(file), "--recipe", str(recipe)]) == 0
    assert recipe.read_text().startswith(
        f"# python -m zpipe recipe={recipe}\n# Imported from ds_config.json.\n"
    )
    longer = "train.max_steps=2000"
    by_overrides = plan_of(*import_files([file]).overrides, longer, hardware=ONE_GPU)
    assert plan_of(f"recipe={recipe}", longer, hardware=ONE_GPU).experiment == by_overrides.experiment


def compiled_again(plan_json: dict[str, Any], folder: Path) -> dict[str, Any]:
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
def test_own_json_survives_the_round_trip(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = plan_of(*overrides, hardware=ONE_GPU).ds_config
    assert compiled_again(config, tmp_path) == config


BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"zero_optimisation": {"stage": 2}}, "zero_optimisation", "ignores it", "zero_optimization"),
    ({"gradient_cliping": 1.0}, "gradient_cliping", "ignores it", "gradient_clipping"),
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
    ({"optimizer": {"typ": "Adam", "params": {"lr": 1e-3}}}, "optimizer.typ", "ignores it", "optimizer.type"),
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
        "no auto",
        "",
    ),
    (
        {"zero_optimization": {"stage": 2, "sub_group_size": 1e9}},
        "zero_optimization.sub_group_size",
        "ignores it at stage 2",
        "",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": None}},
        "zero_optimization.offload_optimizer",
        "empty block",
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
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}},
        "zero_optimization.offload_optimizer.device",
        "in silence",
        "stage=3",
    ),
    ({"gradient_clipping": "auto", "gradient_allreduce_op": "auto"}, "gradient_allreduce_op", "no auto", ""),
]


@pytest.mark.parametrize(("config", "key", "reason", "fix"), BAD, ids=[f"{row[1]}: {row[2]}" for row in BAD])
def test_bad_key_is_named_with_its_reason(
    config: dict[str, Any], key: str, reason: str, fix: str, tmp_path: Path
) -> None:
    findings = import_files([written(tmp_path, config)]).findings
    (problem,) = [each.problem for each in findings if each.problem.key == key]
    assert reason in problem.reason
    assert fix in problem.fix + problem.allowed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6"),
        ("{", "line 1, column 2"),
        ("", "line 1, column 1"),
        ("[1, 2]", "holds no mapping"),
        ("# comment\n{}", "line 1, column 1"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_unreadable_json_is_refused_with_its_place(text: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=place):
        import_files([written(tmp_path, text)])


def test_every_slip_of_commas_and_every_other_problem_are_found_together(tmp_path: Path) -> None:
    lines = ['{"zero_optimization": {"stage": 1,},', '"gradient_clipping": 1.0', '"gradient_cliping": 2,']
    lines += ['"steps_per_print": 1', '"steps_per_print": 2', "}"]
    text = "\n".join(lines)
    imported = import_files([written(tmp_path, text)])
    assert [each.problem.key for each in imported.findings] == [
        "ds_config.json, line 1, column 34",
        "ds_config.json, line 2, column 25",
        "ds_config.json, line 4, column 21",
        "steps_per_print",
        "gradient_cliping",
    ]


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


def test_training_arguments_fill_the_autos_of_their_json(tmp_path: Path) -> None:
    written(tmp_path, read(GUIDE / "notebook.json")[0], "zero3.json")
    arguments = written(
        tmp_path,
        ARGUMENTS,
        "arguments.yaml",
    )
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


def test_arguments_that_contradict_their_json_are_named(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 1}, "gradient_accumulation_steps": 8}
    arguments = written(
        tmp_path,
        {"gradient_accumulation_steps": 4, "learning_rat": 1e-4, "seed": 1, "deepspeed": config},
        "args.json",
    )
    keys = {each.problem.key: each.problem for each in import_files([arguments]).findings}
    assert "contradicts gradient_accumulation_steps=4" in keys["gradient_accumulation_steps"].reason
    assert keys["learning_rat"].fix == "learning_rate"


def test_defaults_of_training_arguments_are_the_installed_ones() -> None:
    import dataclasses

    from transformers import TrainingArguments

    from zpipe.importing.training import DEFAULTS

    installed = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    assert {name: getattr(installed[name], "value", installed[name]) for name in DEFAULTS} == DEFAULTS


def test_defaults_of_deepspeed_that_the_import_writes_out_are_the_installed_ones() -> None:
    import inspect

    from deepspeed.runtime import lr_schedules
    from deepspeed.runtime.config import ADAM_W_MODE_DEFAULT

    for kind in ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR"):
        taken = inspect.signature(getattr(lr_schedules, kind)).parameters
        assert taken["warmup_num_steps"].default == WARMUP_NUM_STEPS
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


def test_accelerate_configuration_becomes_what_its_plugin_makes_of_it(tmp_path: Path) -> None:
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
    different = unnamed(differences(theirs, plan), imported)
    assert different.keys() <= {"steps_per_print"}
    assert "launcher.nproc_per_node=4" in imported.overrides


def test_accelerate_configuration_may_name_a_json_beside_it(tmp_path: Path) -> None:
    written(tmp_path, ZERO2, "zero.json")
    plugin = {"deepspeed_config_file": "zero.json", "zero_stag": 1}
    text = json.dumps({"distributed_type": "DEEPSPEED", "num_processes": 1, "deepspeed_config": plugin})
    imported = import_files([written(tmp_path, text, "a.yaml")])
    assert [each.problem.key for each in imported.findings] == ["deepspeed_config.zero_stag"]
    assert imported.options["stage"] == "2"


def test_command_prints_one_line_of_overrides_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_([str(GUIDE / "zero1.json")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert import_([str(GUIDE / "zero2.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "line 13" in printed.err
    assert import_([str(GUIDE / "zero2.json"), "--mend", "precision=bf16"]) == 0
    printed = capsys.readouterr()
    assert "precision=bf16" in printed.out
    assert "mended:  read as if the comma were there" in printed.err


def test_what_only_the_user_can_decide_is_not_mended(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/x"}}}
    file = str(written(tmp_path, config))
    assert import_([file, "--mend"]) == 2
    assert import_([file, "--mend", "stage=3"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["nothing.json"], ["zero1.txt"], [], ["stage=3"], [str(GUIDE / "zero1.json"), "--recipe", "x.txt"]],
)
def test_request_that_cannot_be_met_is_refused(arguments: list[str]) -> None:
    with pytest.raises((Refusal, SystemExit)):
        import_(arguments)


def test_a_recipe_is_never_overwritten(tmp_path: Path) -> None:
    recipe = written(tmp_path, "train: {}\n", "mine.yaml")
    with pytest.raises(Refusal, match="is there already"):
        import_([str(GUIDE / "zero1.json"), "--recipe", str(recipe)])
    assert recipe.read_text() == "train: {}\n"


def test_texts_and_mappings_reach_the_experiment_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZPIPE_RECIPE_FOLDER", raising=False)
    arguments = {
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


ODD: list[Any] = [None, True, -1, 1e400, "", "auto", "${oops}", "[1", "=", [], [1, "a"], {}, {"a": 1}, 10**30]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_odd_values_end_in_messages(value: Any, tmp_path: Path) -> None:
    """Whatever stands in the place of a block, a number or a name is named, and nothing breaks."""
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
        import_files([file], mend=True)


def test_a_missing_file_is_a_message_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "nothing.json"]) == 2
    assert "no such file" in capsys.readouterr().err
