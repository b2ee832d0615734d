"""A run that goes on keeps what was chosen when it began: the machine may be another one now."""

from zpipe.facts.facts import Facts
from zpipe.plans.given import Given
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan
from zpipe.schema.base import Group
from zpipe.schema.batch import Batch
from zpipe.schema.experiment import Experiment
from zpipe.schema.offload import Offload
from zpipe.search.shapes import stages, without_unused
from zpipe.trees import set_at, value_at

_MICRO, _ACCUMULATION = "batch.per_device_train_batch_size", "batch.gradient_accumulation_steps"


def as_before(experiment: Experiment, facts: Facts, groups: list[str], given: Given) -> Experiment | None:
    """The experiment with the automatic groups of the run in its folder; None if the folder holds no run.

    What the user has set stays: other rules judge whether the run may go on with it. Raises Refusal if the
    plan of the run cannot be read.
    """
    folder = None if facts.run_dir is None else RunFolder(facts.run_dir)
    if folder is None or not folder.attempts or not folder.holds_run:
        return None
    plan = read_plan(folder.path)
    before = plan.experiment
    update: dict[str, Group] = {}
    if "stage" in groups:
        (*_, asked) = stages(experiment, given)
        moves = given.has("stage.stage") and asked.stage != before.stage.stage
        update["stage"] = asked if moves else before.stage
    elif "offload" in groups:
        sub_groups = {"sub_group_size": before.stage.sub_group_size}
        update["stage"] = experiment.stage.model_copy(update=sub_groups)
    if "offload" in groups:
        # The folder of swap files is emptied: only the user names it.
        path = {"nvme_path": experiment.offload.nvme_path}
        update["offload"] = _offload(before.offload.model_copy(update=path), experiment, given)
    if "batch" in groups:
        update["batch"] = _batch(experiment.batch, plan, facts, given)
    if "kernels" in groups:
        update["kernels"] = before.kernels
    train = {}
    if "activation_checkpointing" in groups:
        train["gradient_checkpointing"] = before.train.gradient_checkpointing
    if "compile" in groups:
        train["torch_compile"] = before.train.torch_compile
        update["compile"] = before.compile
    update["train"] = experiment.train.model_copy(update=train)
    return _with_given(experiment.model_copy(update=update), experiment, given)


def _offload(before: Offload, experiment: Experiment, given: Given) -> Offload:
    moved = _with_given(experiment.model_copy(update={"offload": before}), experiment, given)
    return without_unused(moved.offload)


def _with_given(after: Experiment, experiment: Experiment, given: Given) -> Experiment:
    """Puts back what the user has set now."""
    tree = after.model_dump()
    for key in filter(given.has, given.provenance.experiment):
        value = value_at(experiment, key)
        if value_at(after, key) != value:
            set_at(tree, key, value)
    return Experiment.model_validate(tree)


def _batch(batch: Batch, plan: Plan, facts: Facts, given: Given) -> Batch:
    """A micro-batch that is at most the one of before, accumulated so that an optimizer step has the
    sequences of before."""
    sequences, processes = plan.sequences_per_pass * plan.accumulation, facts.data_parallel_size
    accumulation = batch.gradient_accumulation_steps if given.has(_ACCUMULATION) else None
    micro, update = facts.micro_batch, dict[str, int | None]()
    if not given.has(_MICRO):
        micro = _micro_batch(sequences / processes, plan.micro_batch, accumulation)
        update["per_device_train_batch_size"] = micro
    if batch.sequences is None and accumulation is None and sequences % (micro * processes) == 0:
        steps = sequences // (micro * processes)
        update["gradient_accumulation_steps"] = steps if steps > 1 else None
    return batch.model_copy(update=update)


def _micro_batch(sequences: float, most: int, accumulation: int | None) -> int:
    """The largest micro-batch that divides the sequences of a process; the one of before if none does."""
    exact = (size for size in range(most, 0, -1) if sequences % size == 0)
    return next((size for size in exact if accumulation in (None, sequences / size)), most)
