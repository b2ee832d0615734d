"""Whether this machine is the one that a plan was made for."""

from zpipe.launchers import launcher_of
from zpipe.machine.hardware import Hardware
from zpipe.machine.hardware_fixes import undescribed_by
from zpipe.machine.lacking import lacking
from zpipe.plans.plan import Plan
from zpipe.problems import Problem


def not_this_machine(plan: Plan, here: Hardware) -> list[Problem]:
    """What the plan is made for and this machine does not have; empty for a job that runs elsewhere."""
    if launcher_of(plan.launch.launcher).queues:
        return []
    return list(lacking(plan.experiment.hardware, here, undescribed_by(plan.provenance)))
