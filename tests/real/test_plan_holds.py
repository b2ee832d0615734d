"""What DeepSpeed really runs is held against the plan: a replacement behind its back is caught."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded
from tests.support.plans import begin_attempt
from tests.support.process import SMALL, Run, environment, zpipe
from zpipe.plans.plan import Plan

pytestmark = pytest.mark.real


def plant(folder: Path, **changes: object) -> Plan:
    """Changes the JSON of a finished plan, as no command line can."""
    file = folder / "plan.json"
    plan = json.loads(file.read_text())
    plan["ds_config"]["zero_optimization"].update(changes)
    plan["operators"] = ["cpu_adam"]  # otherwise DeepSpeed builds it once more, with other flags
    file.write_text(json.dumps(plan))
    return Plan.model_validate(plan)


STARTED_BY_ZPIPE = {"ZPIPE_LAUNCH_ID": "test"}


def work(plan: Plan) -> Run:
    """Starts the workers of a plan without the parent."""
    begin_attempt(Path(plan.run_dir))
    done = subprocess.run(
        plan.launch.argv,
        env=environment({**plan.launch.env, **STARTED_BY_ZPIPE}),
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, Path(plan.run_dir))


def test_adafactor_taken_over_by_cpu_adam_is_caught(text_file: Path, tmp_path: Path) -> None:
    """accelerate replaces transformers' optimizers under offload, unless it is told not to."""
    folder = tmp_path / "run"
    settings = ("stage=2", "optimizer=adafactor", f"data.path={text_file}", "tracking=none")
    planned = zpipe(tmp_path, "plan", *SMALL, *settings)
    assert planned.exit_code == 0, planned.explain()
    run = work(plant(folder, offload_optimizer={"device": "cpu"}))
    assert run.exit_code != 0
    differences = {event["key"]: event for event in run.events if event["event"] == "difference"}
    assert differences["optimizer class"]["planned"] == "Adafactor"
    assert differences["optimizer class"]["real"] == "DeepSpeedCPUAdam"
    assert differences["optimizer class"]["serious"] is True
    message = json.loads(run.attempt.rank_error(0).read_text())["message"]
    assert "optimizer class: planned Adafactor, runs with DeepSpeedCPUAdam" in message
    assert "strict=false" in message


def test_deepspeeds_checkpointing_recomputes_and_changes_no_loss(text_file: Path, tmp_path: Path) -> None:
    common = (*SMALL, f"data.path={text_file}", "tracking=none")
    checkpointing = ("activation_checkpointing=deepspeed", "activation_checkpointing.profile=true")
    plain = preloaded.zpipe(tmp_path, *common, folder="plain")
    recomputed = preloaded.zpipe(tmp_path, *common, *checkpointing, folder="recomputed")
    assert recomputed.exit_code == plain.exit_code == 0, recomputed.explain()
    assert recomputed.series("loss") == plain.series("loss")
    layers, steps = 2, 4
    for pass_ in ("| fwd: ", "| backward: "):
        assert recomputed.stdout.count(pass_) == layers * steps


def train_and_list_modules(cwd: str, overrides: list[str]) -> None:
    import zpipe

    os.chdir(cwd)
    outcome = zpipe.run(*overrides)
    Path(cwd, "modules.json").write_text(json.dumps(sorted(sys.modules)))
    sys.exit(outcome.exit_code)


def test_a_run_without_muon_does_not_load_torchs_compiler(text_file: Path, tmp_path: Path) -> None:
    """DeepSpeed would, for every optimizer, in each worker and for seconds."""
    overrides = [*SMALL, preloaded.INPROCESS, f"data.path={text_file}", "tracking=none"]
    arguments = (str(tmp_path), [*overrides, f"hydra.run.dir={tmp_path / 'run'}"])
    process = preloaded.context().Process(target=train_and_list_modules, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert "deepspeed.runtime.zero.muon.muon_optimizer" in modules
    assert "torch._inductor.compile_fx" not in modules


def test_tensor_parallel_ranks_train_like_one(text_file: Path, tmp_path: Path) -> None:
    """Two ranks that share every layer see the same sequences as one rank alone, and save a whole model."""
    common = (
        *SMALL,
        f"data.path={text_file}",
        "tracking=none",
        "stage=1",
        "model.config.num_key_value_heads=4",
        "train.learning_rate=1e-2",
    )
    alone = preloaded.zpipe(tmp_path, *common, folder="alone")
    shared = zpipe(
        tmp_path,
        *common,
        "deepspeed.tensor_parallel.autotp_size=2",
        "launcher.nproc_per_node=2",
        folder="shared",
    )
    assert shared.exit_code == alone.exit_code == 0, shared.explain()
    pairs = zip(alone.series("loss"), shared.series("loss"), strict=True)
    assert all(abs(a - b) < 1e-3 for (_, a), (_, b) in pairs)
    sizes = [
        {name: tuple(tensor.shape) for name, tensor in _tensors(run.folder).items()}
        for run in (alone, shared)
    ]
    assert sizes[0] == sizes[1]


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")
