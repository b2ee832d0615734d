"""A run that goes on keeps what was chosen when it began: the machine may be another one now."""

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan
from zpipe.schema.base import Group
from zpipe.schema.batch import Batch
from zpipe.schema.experiment import Experiment
from zpipe.search.shapes import without_unused


def as_before(experiment: Experiment, facts: Facts, groups: list[str]) -> Experiment | None:
    """The experiment with the automatic groups of the run in its folder; None if the folder holds no run.

    Raises Refusal if its plan cannot be read.
    """
    folder = None if facts.run_dir is None else RunFolder(facts.run_dir)
    if folder is None or not folder.attempts or not folder.holds_run:
        return None
    plan = read_plan(folder.path)
    before = plan.experiment
    update: dict[str, Group] = {}
    if "stage" in groups:
        update["stage"] = before.stage
    elif "offload" in groups:
        sub_groups = {"sub_group_size": before.stage.sub_group_size}
        update["stage"] = experiment.stage.model_copy(update=sub_groups)
    if "offload" in groups:
        # The folder of swap files is emptied: only the user names it.
        path = {"nvme_path": experiment.offload.nvme_path}
        update["offload"] = without_unused(before.offload.model_copy(update=path))
    if "batch" in groups:
        update["batch"] = _batch(experiment.batch, plan, facts)
    if "kernels" in groups:
        update["kernels"] = before.kernels
    train = {}
    if "activation_checkpointing" in groups:
        train["gradient_checkpointing"] = before.train.gradient_checkpointing
    if "compile" in groups:
        train["torch_compile"] = before.train.torch_compile
        update["compile"] = before.compile
    update["train"] = experiment.train.model_copy(update=train)
    return experiment.model_copy(update=update)


def _batch(batch: Batch, plan: Plan, facts: Facts) -> Batch:
    """The micro-batch of before, accumulated so that an optimizer step has the sequences of before."""
    micro, sequences = plan.micro_batch, plan.sequences_per_pass * plan.accumulation
    update: dict[str, int | None] = {"per_device_train_batch_size": micro}
    if batch.sequences is None and sequences % (micro * facts.data_parallel_size) == 0:
        accumulation = sequences // (micro * facts.data_parallel_size)
        update["gradient_accumulation_steps"] = accumulation if accumulation > 1 else None
    return batch.model_copy(update=update)
