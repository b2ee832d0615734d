"""Compiles an Experiment into a Plan: gathers facts, checks all rules, derives the JSON and the launch."""

from pathlib import Path

from zpipe import checks
from zpipe.compile.derivations import derivations
from zpipe.compile.ds_config import ds_config, unresolved
from zpipe.compile.engine import expected_engine
from zpipe.compile.inputs import inputs_of
from zpipe.compile.launch import launch_of
from zpipe.compile.operators import operators_of
from zpipe.compile.recipe_notices import recipe_notices
from zpipe.compile.training_arguments import training_arguments
from zpipe.facts.facts import Facts, gather
from zpipe.launchers.base import NOTHING_SETTLED, Settled
from zpipe.machine.hardware import Hardware
from zpipe.machine.versions import installed_versions
from zpipe.memory.checkpoint_space import checkpoint_space
from zpipe.memory.flops import training_flops
from zpipe.memory.predict import predict_memory
from zpipe.memory.verdict import fits_of
from zpipe.plans.effective import effective
from zpipe.plans.given import Given
from zpipe.plans.plan import Notice, Plan
from zpipe.plans.provenance import Provenance
from zpipe.problems import refuse_if_any
from zpipe.runfolder.folder import (
    CONFIG_NAME,
    DS_CONFIG_NAME,
    EVENTS_NAME,
    MODEL_NAME,
    PLAN_NAME,
    attempt_name,
    checkpoint_name,
)
from zpipe.runfolder.swap_folder import swap_folder_of
from zpipe.schema.experiment import Experiment
from zpipe.search.account import notices_of
from zpipe.search.choose import Chosen, choose
from zpipe.search.measured import Measurement


def compile_plan(
    experiment: Experiment,
    run_dir: Path,
    command: list[str],
    here: Hardware,
    provenance: Provenance | None = None,
    settled: Settled = NOTHING_SETTLED,
    measured: tuple[Measurement, ...] | None = None,
) -> Plan:
    """The plan of one run. Raises Refusal with the problems of all rules together.

    `here` is this machine. `provenance` holds the sources of the experiment's values; those of the JSON are
    added here. `settled` is for a launcher whose job composes the experiment again. `measured` is what was
    measured for this very run.
    """
    chosen = choose(experiment, gather(experiment, here, run_dir), provenance or Provenance(), measured)
    experiment, facts, provenance = chosen.experiment, chosen.facts, chosen.provenance
    given = Given(provenance)
    refuse_if_any(effective(checks.problems_of_rules(experiment, facts), given))
    memory = predict_memory(experiment, facts)
    refuse_if_any(effective(checks.problems_of_memory(experiment, facts, memory), given))
    swap_folder = swap_folder_of(experiment.offload, run_dir)
    swap_dir = None if swap_folder is None else str(swap_folder)
    config = ds_config(experiment, facts, swap_dir)
    return Plan(
        run_dir=str(run_dir),
        versions=dict(installed_versions()),
        command=command,
        experiment=experiment,
        ds_config=config,
        training_arguments=training_arguments(experiment, facts, run_dir),
        engine=expected_engine(experiment, facts),
        model=facts.model,
        inputs=inputs_of(facts),
        launch=launch_of(experiment, facts, run_dir, command, settled),
        operators=operators_of(experiment, facts),
        swap_dir=swap_dir,
        unresolved=unresolved(config),
        notices=[*checks.notices(experiment, facts, memory), *_further_notices(chosen)],
        flops=training_flops(experiment, facts),
        checkpoint_space=checkpoint_space(experiment, facts),
        memory=memory,
        memory_fits=[] if memory is None else list(fits_of(memory, experiment, facts)),
        choice=chosen.choice,
        expected_files=_expected_files(experiment, facts),
        provenance=provenance.model_copy(update={"ds_config": derivations(config, experiment)}),
    )


def _further_notices(chosen: Chosen) -> list[Notice]:
    found = notices_of(chosen.choice, chosen.experiment)
    found += recipe_notices(chosen.experiment, chosen.provenance)
    if chosen.facts.model.random_init:
        text = f"{chosen.facts.model.name} starts from random weights"
        found.append(Notice(level="info", key="model", text=text))
    return found


def _expected_files(experiment: Experiment, facts: Facts) -> list[str]:
    files = [PLAN_NAME, DS_CONFIG_NAME, CONFIG_NAME, f"{attempt_name(1)}/{EVENTS_NAME}"]
    files += [checkpoint_name(step) for step in _kept_checkpoints(experiment, facts)]
    if experiment.checkpoint.save_final_model:
        files += [f"{MODEL_NAME}/config.json", f"{MODEL_NAME}/*.safetensors"]
    return files


def _kept_checkpoints(experiment: Experiment, facts: Facts) -> list[int]:
    """Every save_steps and the last step (transformers/trainer_callback.py), if the number of steps is known.

    If the best checkpoint is kept too, only the last one is certain: which step is the best is not known yet.
    """
    checkpoint, total = experiment.checkpoint, facts.total_steps
    if total is None or checkpoint.save_strategy != "steps":
        return []
    steps = [*range(checkpoint.save_steps, total, checkpoint.save_steps), total]
    limit = 1 if experiment.train.load_best_model_at_end else checkpoint.save_total_limit
    return steps[-limit:] if limit else steps
