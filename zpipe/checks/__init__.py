"""Rules across config groups: settings that DeepSpeed, accelerate or transformers refuse late or ignore.

A rule is a pure function of the experiment and the facts that yields problems. `ERRORS` refuse the run;
`NOTICES` are printed and written to the plan.
"""

from collections.abc import Callable, Iterable

from zpipe.checks import (
    attention,
    batch,
    checkpoint,
    checkpoint_copy,
    checkpoint_space,
    data,
    deepcompile,
    deepspeed,
    engine,
    hostfile,
    kernels,
    kubeflow,
    launcher,
    measuring,
    memory,
    model,
    model_folder,
    model_sizes,
    model_values,
    node_local,
    offload,
    optimizer,
    precision,
    rotary,
    scheduler,
    stage,
    steps,
    swap,
    tracking,
    training,
)
from zpipe.facts.facts import Facts
from zpipe.plans.memory import MemoryPrediction
from zpipe.plans.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment

Rule = Callable[[Experiment, Facts], Iterable[Problem]]
Advice = Callable[[Experiment, Facts], Iterable[Notice]]

ERRORS: tuple[Rule, ...] = (
    *stage.ERRORS,
    *offload.ERRORS,
    *swap.ERRORS,
    *precision.ERRORS,
    *optimizer.ERRORS,
    *scheduler.ERRORS,
    *engine.ERRORS,
    *kernels.ERRORS,
    *attention.ERRORS,
    *deepcompile.ERRORS,
    *deepspeed.ERRORS,
    *training.ERRORS,
    *steps.ERRORS,
    *launcher.ERRORS,
    *measuring.ERRORS,
    *hostfile.ERRORS,
    *kubeflow.ERRORS,
    *model.ERRORS,
    *model_sizes.ERRORS,
    *rotary.ERRORS,
    *model_values.ERRORS,
    *model_folder.ERRORS,
    *tracking.ERRORS,
    *checkpoint.ERRORS,
    *checkpoint_space.ERRORS,
    *checkpoint_copy.ERRORS,
    *node_local.ERRORS,
    *batch.ERRORS,
    *data.ERRORS,
)
NOTICES: tuple[Advice, ...] = (
    *launcher.NOTICES,
    *data.NOTICES,
    *offload.NOTICES,
    *swap.NOTICES,
    *precision.NOTICES,
    *stage.NOTICES,
    *optimizer.NOTICES,
    *scheduler.NOTICES,
    *engine.NOTICES,
    *deepcompile.NOTICES,
    *kernels.NOTICES,
    *attention.NOTICES,
    *steps.NOTICES,
    *tracking.NOTICES,
    *model.NOTICES,
    *model_folder.NOTICES,
    *checkpoint.NOTICES,
    *checkpoint_space.NOTICES,
    *checkpoint_copy.NOTICES,
    *kubeflow.NOTICES,
)


def problems(experiment: Experiment, facts: Facts) -> list[Problem]:
    """Every problem of every rule. The memory is that of a plan without other problems."""
    found = problems_of_rules(experiment, facts)
    return found or memory.predicted_problems(experiment, facts, accepts)


def problems_of_rules(experiment: Experiment, facts: Facts) -> list[Problem]:
    """Every problem but that of the memory."""
    return [problem for rule in ERRORS for problem in rule(experiment, facts)]


def problems_of_memory(
    experiment: Experiment, facts: Facts, prediction: MemoryPrediction | None
) -> list[Problem]:
    """Whether a plan that no other rule refuses has the memory that it is predicted to need."""
    return list(memory.memory_problems(experiment, facts, prediction, accepts))


def accepts(experiment: Experiment, facts: Facts) -> bool:
    """Whether no rule but that of the memory refuses the experiment."""
    return not any(True for rule in ERRORS for _ in rule(experiment, facts))


def notices(experiment: Experiment, facts: Facts, prediction: MemoryPrediction | None) -> list[Notice]:
    """Every warning and piece of advice."""
    found = [notice for advice in NOTICES for notice in advice(experiment, facts)]
    return [*found, *memory.memory_notices(experiment, facts, prediction)]
