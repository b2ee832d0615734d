"""Every rule names the refused key, and each of its fixes makes the command line compile."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.planning import CPU, experiment_of, plan_of, problems_of
from tests.support.refused import FOUR_GPUS, ONE_GPU, REFUSED, SMALL_DISK
from zpipe import checks
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.problems import Fix, Problem, Refusal

ROWS = pytest.mark.parametrize(
    ("overrides", "key", "hardware"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED]
)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 264,
}


@pytest.fixture
def named_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that fixes name as examples, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text('{"text": "one example"}\n')
    for folder in (Path("path/to/model"), Path("path/to/downloaded/model")):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(LLAMA))
        (folder / "pytorch_model.bin").touch()
    for folder in (*Path("path/to").iterdir(), Path("path/to/downloaded/model"), Path("path/to/tokenizer")):
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text("{}")


@ROWS
def test_rule_names_the_refused_key(overrides: list[str], key: str, hardware: Hardware) -> None:
    problems = problems_of(*overrides, hardware=hardware)
    assert key in [problem.key for problem in problems]
    assert [problem for problem in problems if not (problem.reason and _alternatives(problem))] == []


@ROWS
@pytest.mark.usefixtures("named_files")
def test_fix_compiles(overrides: list[str], key: str, hardware: Hardware) -> None:
    """Each alternative of each problem, alone, leaves nothing to refuse."""
    _assert_every_fix_compiles(overrides, hardware)


def _assert_every_fix_compiles(overrides: list[str], hardware: Hardware = CPU) -> None:
    fixes = [fix for problem in problems_of(*overrides, hardware=hardware) for fix in _alternatives(problem)]
    assert fixes
    for fix in dict.fromkeys(fixes):
        left = problems_of(*_applied(fix, overrides), hardware=hardware)
        assert left == [], f"{fix}\nleaves\n" + "\n".join(map(str, left))


def _alternatives(problem: Problem) -> tuple[str, ...]:
    """Rules and validation give their fixes as data, for `zpipe import --fix`."""
    return problem.fix.alternatives if isinstance(problem.fix, Fix) else ()


def _applied(fix: str, overrides: list[str]) -> list[str]:
    """The command line of a user who replaces the overrides that the fix names, and adds the others."""
    replaced = {override.partition("=")[0] for override in fix.split()}
    return [each for each in overrides if each.partition("=")[0].lstrip("~") not in replaced] + fix.split()


@pytest.mark.usefixtures("named_files")
@pytest.mark.parametrize("path", ["table.xlsx", "empty.jsonl", "empty_folder", "none/train.jsonl"])
def test_fixes_of_unreadable_data_compile(path: str) -> None:
    Path("table.xlsx").write_text("cells")
    Path("empty.jsonl").touch()
    Path("empty_folder").mkdir()
    _assert_every_fix_compiles([f"data.path={path}"])


def test_problems_of_several_rules_are_reported_together() -> None:
    problems = problems_of(
        "stage=2", "offload=nvme", "precision=bf16", "precision.fp16.initial_scale_power=8"
    )
    assert {problem.key for problem in problems} == {
        "offload.offload_optimizer.device",
        "offload.offload_param.device",
        "precision.fp16.initial_scale_power",
    }


VALID = [
    (stage, offload)
    for stage, offloads in {
        0: ["none"],
        1: ["none", "cpu_optimizer"],
        2: ["none", "cpu_optimizer"],
        3: ["none", "cpu", "cpu_optimizer", "nvme", "nvme_optimizer"],
    }.items()
    for offload in offloads
]


@pytest.mark.parametrize(
    ("stage", "offload", "precision"),
    [
        (stage, offload, precision)
        for stage, offload in VALID
        for precision in ("fp32", "bf16", "fp16", "tf32")
        if (stage, precision) != (0, "fp16")  # refused, see REFUSED
    ],
)
def test_valid_combination_compiles_on_a_gpu(stage: int, offload: str, precision: str) -> None:
    overrides = (f"stage={stage}", f"offload={offload}", f"precision={precision}")
    zero = plan_of(*overrides, hardware=ONE_GPU).ds_config["zero_optimization"]
    assert zero["stage"] == stage
    assert ("offload_param" in zero) == (offload in ("cpu", "nvme"))
    assert ("offload_optimizer" in zero) == (offload != "none")


def test_unset_keys_cause_no_notices() -> None:
    assert [notice.key for notice in plan_of().notices] == ["model"]


@pytest.mark.parametrize("setting", ["train.adam_beta1=0.8", "train.adam_epsilon=1e-6"])
def test_train_setting_that_a_transformers_optimizer_does_not_use_is_refused(setting: str) -> None:
    (problem,) = problems_of("optimizer=adafactor", setting)
    assert problem.key == setting.partition("=")[0]
    assert problem.reason.startswith("adafactor does not use")
    assert problems_of("optimizer=adafactor", problem.fix) == []


LARGER_DISK = replace(SMALL_DISK, free_disk=lambda _: 10**9)
NOTICED = [
    (["model=llama3_1b", "model.config.num_hidden_layers=10"], "info", "checkpoint.async_save", CPU),
    (
        ["checkpoint.save_steps=1", "checkpoint.save_total_limit=null", "train.max_steps=200"],
        "warning",
        "checkpoint.save_total_limit",
        LARGER_DISK,
    ),
    (
        ["checkpoint.save_steps=1", "checkpoint.save_total_limit=20", "train.max_steps=200"],
        "info",
        "checkpoint.save_total_limit",
        LARGER_DISK,
    ),
    (["checkpoint.save_only_model=true"], "warning", "checkpoint.save_only_model", CPU),
    (["stage=3", "offload=nvme"], "warning", "offload.nvme_path", CPU),
    (["stage=3", "offload=nvme"], "info", "offload", CPU),
    (
        ["stage=3", "offload=nvme", "offload.offload_param.max_in_cpu=1e9"],
        "warning",
        "offload.offload_param.max_in_cpu",
        CPU,
    ),
    (
        [
            *("stage=3", "offload=nvme", "model.config.hidden_size=66"),
            *("model.config.intermediate_size=128", "model.config.num_attention_heads=3"),
            "model.config.num_key_value_heads=3",
        ],
        "warning",
        "offload.offload_param.device",
        CPU,
    ),
    (
        ["precision=bf16", "precision.bf16.check_grad_overflow=false"],
        "warning",
        "precision.bf16.check_grad_overflow",
        CPU,
    ),
    (
        ["precision=bf16", "batch.gradient_accumulation_steps=8"],
        "advice",
        "precision.data_types.grad_accum_dtype",
        CPU,
    ),
    (["stage.reduce_bucket_size=5e8"], "advice", "stage.reduce_bucket_size", ONE_GPU),
    (["offload=cpu_optimizer"], "advice", "stage.round_robin_gradients", FOUR_GPUS),
    (["optimizer=adafactor"], "warning", "optimizer", CPU),
    (["optimizer=lamb"], "warning", "optimizer", ONE_GPU),
    (["scheduler=one_cycle"], "warning", "train.warmup_steps", CPU),
    (["scheduler=one_cycle"], "warning", "scheduler.params.cycle_momentum", CPU),
    (["scheduler=warmup", "train.warmup_steps=0"], "info", "train.warmup_steps", CPU),
    (["train.max_steps=9"], "warning", "train.warmup_steps", CPU),
    (["profiler=wall_clock"], "advice", "profiler.wall_clock_breakdown", CPU),
    (["profiler.timers.throughput.enabled=true"], "advice", "profiler.timers.throughput.enabled", CPU),
    (["compile=regional", "stage=3"], "advice", "train.torch_compile", CPU),
    (["compile=torch"], "info", "train.torch_compile", CPU),
    (
        ["compile=torch", "activation_checkpointing=deepspeed"],
        "warning",
        "activation_checkpointing",
        CPU,
    ),
]


@pytest.mark.parametrize(
    ("overrides", "level", "key", "hardware"), NOTICED, ids=[f"{row[1]} {row[2]}" for row in NOTICED]
)
def test_notice_is_given_without_a_refusal(
    overrides: list[str], level: str, key: str, hardware: Hardware
) -> None:
    notices = plan_of(*overrides, hardware=hardware).notices
    assert (level, key) in [(notice.level, notice.key) for notice in notices]


def test_fp16_warning_for_a_model_trained_in_bf16(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8, "dtype": "bfloat16"}')
    (tmp_path / "pytorch_model.bin").touch()
    overrides = (f"model.name_or_path={tmp_path}", "model.tokenizer=bytes")
    in_fp16 = plan_of(*overrides, "precision=fp16", hardware=ONE_GPU).notices
    assert ("warning", "precision") in [(notice.level, notice.key) for notice in in_fp16]
    in_bf16 = plan_of(*overrides, "precision=bf16", hardware=ONE_GPU).notices
    assert "precision" not in [notice.key for notice in in_bf16]


def test_every_rule_has_a_refused_row() -> None:
    need_files = (  # test_model_folders, test_hostfile
        *checks.model_folder.ERRORS,
        *checks.hostfile.ERRORS,
        checks.node_local.hosts_of_a_hostfile_save_together,
    )
    unused = set(checks.ERRORS) - set(need_files)
    for overrides, _, hardware in REFUSED:
        try:
            experiment = experiment_of(*overrides)
            facts = gather(experiment, hardware, Path("/runs/one"))
        except Refusal:
            continue  # refused before the rules run
        unused -= {rule for rule in unused if any(True for _ in rule(experiment, facts))}
    assert sorted(rule.__name__ for rule in unused) == []


def test_accumulation_is_derived_from_the_total_batch_size() -> None:
    config = plan_of(
        "batch.train_batch_size=256", "batch.per_device_train_batch_size=8", hardware=FOUR_GPUS
    ).ds_config
    assert config["gradient_accumulation_steps"] == 8
    assert config["train_batch_size"] == 256
