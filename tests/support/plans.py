"""Valid plans of a tiny CPU run, created without the compiler, and the attempts at it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.checkpoints import make_checkpoint
from zpipe.plans.plan import Engine, Launch, ModelFacts, Plan
from zpipe.runfolder.attempt_start import AttemptStart, write_start
from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.runfolder.outcome import Ending, Outcome, write_outcome
from zpipe.runfolder.plan_file import write_plan
from zpipe.schema.experiment import Experiment, defaults
from zpipe.trees import set_at


def make_plan(run_dir: Path, **changes: Any) -> Plan:
    """A plan, written to its run folder.

    `experiment` maps dotted keys to values that replace the schema's defaults ({"tracking.uri": ...}). Any
    other keyword replaces that field of the plan.
    """
    experiment = _experiment(changes.pop("experiment", {}))
    fields: dict[str, Any] = {
        "run_dir": str(run_dir),
        "versions": {"torch": "2.11.0", "deepspeed": "0.19.8"},
        "command": ["stage=2", "train.max_steps=4"],
        "experiment": experiment,
        "ds_config": {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "train_batch_size": 1,
            "zero_optimization": {"stage": experiment.stage.stage, "reduce_bucket_size": 500_000_000},
        },
        "training_arguments": {"output_dir": str(run_dir), "max_steps": 4, "use_cpu": True},
        "engine": Engine(optimizer="AdamW", scheduler="LambdaLR", dtype="fp32"),
        "model": ModelFacts(
            name="tiny",
            random_init=True,
            config={"model_type": "llama", "hidden_size": 64},
            tokenizer="bytes",
            hidden_size=64,
            parameters=148_000,
        ),
        "launch": Launch(
            launcher="torchrun", device="cpu", nproc_per_node=1, world_size=1, argv=["torchrun"], env={}
        ),
        "operators": [],
        "swap_dir": None,
        "unresolved": {},
        "notices": [],
        "expected_files": ["plan.json", "ds_config.json", "attempt-1/events.jsonl"],
    }
    plan = Plan(**{**fields, **changes})
    write_plan(plan)
    return plan


def begin_attempt(run_dir: Path, number: int = 1, run_id: str = "this-run") -> Attempt:
    """Begins an attempt as zpipe does before it starts the workers."""
    attempt = RunFolder(run_dir).begin(number)
    write_start(attempt, AttemptStart(run_id=run_id))
    return attempt


def _experiment(changes: dict[str, Any]) -> Experiment:
    tree = defaults()
    for key, value in {"train.max_steps": 4, **changes}.items():
        set_at(tree, key, value)
    return Experiment.model_validate(tree)


NO_CHANGES: Mapping[str, Any] = {}


def plan_in(folder: Path, settings: Mapping[str, Any] = NO_CHANGES) -> Plan:
    """The plan of a run that is to start in this folder; not written."""
    elsewhere = folder.parent / f"{folder.name}.plan"
    plan = make_plan(elsewhere, experiment=dict(settings)).model_copy(update={"run_dir": str(folder)})
    shutil.rmtree(elsewhere)
    return plan


def run_in(folder: Path, ending: Ending | None = None, checkpoints: tuple[int, ...] = ()) -> None:
    """A run folder whose first attempt ended like this; without an ending it was killed."""
    make_plan(folder)
    begin_attempt(folder)
    for step in checkpoints:
        make_checkpoint(folder, step)
    if ending is not None:
        write_outcome(Outcome(ending=ending, run_dir=str(folder)))
