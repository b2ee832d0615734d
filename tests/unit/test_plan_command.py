"""The commands `zpipe plan` and `zpipe diff`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zpipe
from tests.support.planning import plan_of
from tests.support.process import environment
from zpipe.cli.main import main
from zpipe.explain.explain import explain, shown
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import write_plan
from zpipe.trees import leaves

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: Captured, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_printed_plan_equals_plan_json(form: str, read: object, tmp_path: Path, capsys: Captured) -> None:
    out = printed(capsys, "plan", "stage=3", f"hydra.run.dir={tmp_path / 'run'}", "--format", form)
    value = read(out)  # type: ignore[operator]
    assert value == json.loads((tmp_path / "run" / "plan.json").read_text())
    assert Plan.model_validate(value).experiment.stage.stage == 3


def test_table_has_a_row_per_json_key(capsys: Captured) -> None:
    lines = printed(capsys, "plan", "stage=3", "--format=table").splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert "147456" in rows["zero_optimization.reduce_bucket_size"]
    assert "conf/stage/3.yaml" in rows["zero_optimization.overlap_comm"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--explain", "stage.reduce_bucket_size", "stage=3", "stage.reduce_bucket_size=5e7"],
        ["stage=3", "--explain", "stage.reduce_bucket_size", "stage.reduce_bucket_size=5e7"],
        ["stage=3", "stage.reduce_bucket_size=5e7", "--explain=stage.reduce_bucket_size"],
    ],
    ids=["first", "between", "last"],
)
def test_flags_may_follow_or_precede_overrides(
    arguments: list[str], tmp_path: Path, capsys: Captured
) -> None:
    out = printed(capsys, "plan", *arguments)
    assert out.splitlines() == [
        "stage.reduce_bucket_size = 50000000",
        "  from          stage.reduce_bucket_size=5e7",
        "  in place of   auto (conf/stage/3.yaml)",
        "  in place of   null (default)",
        "  sets          zero_optimization.reduce_bucket_size",
    ]
    assert list(tmp_path.iterdir()) == []


def test_override_after_explain_is_not_its_key(capsys: Captured) -> None:
    out = printed(capsys, "plan", "--explain", "stage=3")
    assert "conf/stage/3.yaml" in out


def test_derived_value_shows_formula_and_inputs(
    capsys: Captured,
) -> None:
    out = printed(
        capsys,
        "plan",
        "recipe=zero3_nvme",
        "offload=none",
        "--explain",
        "zero_optimization.reduce_bucket_size",
    )
    assert "= 147456" in out
    assert "hidden_size x hidden_size" in out
    assert "stage.reduce_bucket_size = auto (conf/stage/3.yaml)" in out
    assert "model.config.hidden_size = 384 (conf/model/tiny.yaml)" in out


def test_block_explains_all_its_keys() -> None:
    plan = plan_of("stage=3")
    keys = {each.key: each for each in explain(plan, "stage")}
    assert set(keys) == {f"stage.{name}" for name, _ in leaves(plan.experiment.stage.model_dump())}
    assert keys["stage.reduce_scatter"].source == "default"
    assert keys["stage.stage"].why == "chosen by stage=3"


def test_missing_json_key_names_the_key_that_sets_it() -> None:
    (explanation,) = explain(plan_of("stage=2"), "zero_optimization.sub_group_size")
    assert explanation.value is None
    assert "stage.sub_group_size" in explanation.note


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("stage.reduce_buket_size", "stage.reduce_bucket_size"),
        ("zero_optimization.overlap_com", "zero_optimization.overlap_comm"),
        ("learning_rate", "train.learning_rate"),
    ],
)
def test_unknown_key_is_refused_with_a_suggestion(key: str, fix: str) -> None:
    with pytest.raises(Refusal) as refused:
        explain(plan_of(), key)
    assert f"--explain {fix}" in refused.value.problems[0].fix


@pytest.mark.parametrize("arguments", [["--formt", "json"], ["--format", "xml"], ["-m", "--explain"]])
def test_wrong_flag_is_refused(arguments: list[str], capsys: Captured) -> None:
    assert main(["plan", *arguments, "stage=3"]) == 2
    assert "Refused" in capsys.readouterr().err


def test_sweep_table_has_a_line_per_point(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", "-m", "stage=2,3", "offload=cpu", "train.learning_rate=1e-4,2e-4"]) == 2
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["point", "stage", "train.learning_rate", "plan"]
    assert lines[1][:4] == ["0", "2", "0.0001", "refused:"]
    assert lines[4] == ["3", "3", "0.0002", "1024", "tokens", "per", "step"]
    assert "Refused: 2 of 4 points" in err
    assert "(points 0, 1)" in err
    assert list(tmp_path.iterdir()) == []


def test_sweep_json_has_the_plan_of_each_point(capsys: Captured) -> None:
    points = json.loads(printed(capsys, "plan", "-m", "--format", "json", "stage=1,2"))
    assert [Plan.model_validate(point["plan"]).experiment.stage.stage for point in points] == [1, 2]


def written(tmp_path: Path, name: str, *overrides: str) -> str:
    plan = plan_of(*overrides, run_dir=tmp_path / name)
    write_plan(plan)
    return plan.run_dir


def test_diff_shows_both_values_and_sources(tmp_path: Path, capsys: Captured) -> None:
    a = written(tmp_path, "a", "stage=3", "offload=nvme")
    b = written(tmp_path, "b", "stage=3", "offload=nvme", "stage.reduce_bucket_size=1e6", "launcher.env.X=on")
    found = json.loads(printed(capsys, "diff", a, f"{b}/plan.json", "--format", "json"))
    by_key = {(each["section"], each["key"]): each for each in found}
    assert set(by_key) == {
        ("experiment", "stage.reduce_bucket_size"),
        ("experiment", "launcher.env"),
        ("experiment", "launcher.env.X"),
        ("ds_config", "zero_optimization.reduce_bucket_size"),
        ("environment", "X"),
    }
    bucket = by_key["ds_config", "zero_optimization.reduce_bucket_size"]
    assert bucket["a"]["value"] == 147456
    assert "hidden_size x hidden_size" in bucket["a"]["source"]
    assert bucket["b"] == {"value": 1_000_000, "source": "stage.reduce_bucket_size=1e6"}


def test_equal_runs_have_no_difference(tmp_path: Path, capsys: Captured) -> None:
    overrides = ["stage=3", "offload=nvme", f"offload.nvme_path={tmp_path}"]
    assert printed(
        capsys, "diff", written(tmp_path, "a", *overrides), written(tmp_path, "b", *overrides)
    ) == ("no difference\n")


@pytest.mark.parametrize("content", [None, "{", '{"format": 1}'], ids=["missing", "not JSON", "not a plan"])
def test_unreadable_plan_is_refused(content: str | None, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "plan.json"
    if content is not None:
        file.write_text(content)
    assert main(["diff", str(file), str(file)]) == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["show", "report", "record"])
def test_run_folder_of_another_version_is_refused(verb: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "plan.json").write_text("{}")
    RunFolder(tmp_path).begin(1).events.touch()
    assert main([verb, str(tmp_path)]) == 2
    assert "not a plan of this version" in capsys.readouterr().err


def test_damaged_sweep_is_refused(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "sweep.json").write_text('{"arguments": [')
    for command in (["sweep", "report"], ["sweep", "resume"], ["record"]):
        assert main([*command, str(tmp_path)]) == 2
        assert "not a sweep of this version" in capsys.readouterr().err


def test_values_are_shown_as_json() -> None:
    assert [shown(value) for value in (None, True, 1e-5, "auto", [1, "a"])] == [
        "null",
        "true",
        "1e-05",
        "auto",
        '[1, "a"]',
    ]


def test_help_lists_explain(capsys: Captured) -> None:
    assert "--explain [KEY]" in printed(capsys, "--help")


def test_another_machine_is_planned_and_nothing_is_written(tmp_path: Path, capsys: Captured) -> None:
    machine = ("--gpus", "8xH100", "--host-memory", "1024", "--cores", "96")
    text = printed(capsys, "plan", "stage=3", "precision=bf16", *machine)
    assert "8 x NVIDIA H100 80GB HBM3, 96 cores, 1.0 TiB of host memory" in text
    assert "cuda, 8 processes" in text
    plan = json.loads(printed(capsys, "plan", "launcher.device=cuda", "--gpus", "2xT4", "--format", "json"))
    assert plan["launch"]["nproc_per_node"] == 2
    points = json.loads(printed(capsys, "plan", "-m", "stage=1,2", "--gpus", "4xl4", "--format", "json"))
    assert [point["plan"]["launch"]["nproc_per_node"] for point in points] == [4, 4]
    assert list(tmp_path.iterdir()) == []


def test_another_machine_has_its_own_rules(capsys: Captured) -> None:
    assert main(["plan", "precision=bf16", "--gpus", "4xV100-32GB"]) == 2
    assert "precision=fp16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "8xH1000"], ["--gpus=8xH1000", "H100", "--gpus 8xH100"]),
        (["--gpus", "H100"], ["--gpus=H100", "COUNTxNAME"]),
        (["--gpus", "0xH100"], ["--gpus=0xH100"]),
        (["--gpus", "1xH100", "--host-memory", "-1", "--cores", "0"], ["--host-memory", "--cores"]),
        (["--cores", "3"], ["--cores", "--gpus 8xH100"]),
    ],
)
def test_an_unknown_machine_is_refused(arguments: list[str], words: list[str], capsys: Captured) -> None:
    assert main(["plan", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_closed_pipe_is_not_an_error() -> None:
    shell = 'set -o pipefail; "$0" -m zpipe plan --format json | true'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 141)  # 0 if the plan was written before the reader exited
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("override", "secret"),
    [
        ("launcher.envs.HF_TOKEN=battery-staple", "battery-staple"),
        ("launcher.env={HF_TOKEN: battery-staple", "battery-staple"),
        ("tracking.urii=https://me:battery@host", "battery"),
    ],
)
def test_refusal_hides_secrets(override: str, secret: str, capsys: Captured) -> None:
    assert main(["plan", override]) == 2
    printed_error = capsys.readouterr().err
    assert "***" in printed_error
    assert secret not in printed_error


@pytest.mark.parametrize("command", [["plan"], ["plan", "--explain"], ["plan", "-m", "stage=1,2"]])
def test_a_store_that_the_run_refuses_is_refused(
    command: list[str], tmp_path: Path, capsys: Captured
) -> None:
    assert main([*command, "tracking.uri=./mlruns"]) == 2
    said = capsys.readouterr().err
    assert "tracking.uri=./mlruns: MLflow 3.17 cannot write to this store" in said
    assert "try:     tracking.uri=sqlite:///outputs/mlflow.db" in said
    assert main([*command, "tracking.uri=./mlruns", "tracking=none"]) == 0


def test_from_python_the_same_store_is_refused() -> None:
    with pytest.raises(Refusal):
        zpipe.plan("tracking.uri=./mlruns")
