"""What `zpipe plan` says of a run that would go on: from which checkpoint, and what has changed."""

from collections.abc import Iterator

from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.plan_file import folder_of
from zpipe.running.start import Start
from zpipe.schema.resume import AUTO, NEVER
from zpipe.terminal.console import say
from zpipe.terminal.plan_text import Rows


def resume_problems(plan: Plan) -> list[Problem]:
    """Why the checkpoint that `resume` names cannot be used, as far as its manifest tells."""
    if not _names_checkpoint(plan):
        return []
    from zpipe.running.choose import named_problems

    return named_problems(plan)


def resume_rows(plan: Plan, start: Start) -> Rows:
    """How the run would go on; empty for one that begins. No content is compared. Raises Refusal."""
    if start.finished is not None:
        return [("resume", "this run has finished: nothing would be started")]
    if start.attempt == 1 and not _names_checkpoint(plan):
        return []
    return list(_rows(plan, start))


def _rows(plan: Plan, start: Start) -> Iterator[tuple[str, str]]:
    from zpipe.running.choose import checkpoint_for, reshaping_lines

    found = checkpoint_for(plan, say, quick=True)
    if found is None:
        yield "resume", f"attempt {start.attempt} would begin at step 0: there is no checkpoint"
    else:
        is_own = found.path.parent == folder_of(plan).path
        origin = found.path.name if is_own else found.path
        text = f"attempt {start.attempt} would go on from step {found.step}, {origin}"
        yield "resume", f"{text} (names and sizes agree; the run compares contents too)"
    for line in reshaping_lines(plan, found):
        yield "shape", line
    for change in start.changes:
        yield "change", change


def _names_checkpoint(plan: Plan) -> bool:
    return plan.experiment.resume.checkpoint not in (AUTO, NEVER)
