"""plan.json, ds_config.json and config.yaml in the run folder."""

from pathlib import Path

from zpipe.plans.plan import Plan, without_secrets
from zpipe.redact import remember_secrets
from zpipe.runfolder.atomic import read_model, write_json, write_text
from zpipe.runfolder.folder import PLAN_NAME, RunFolder
from zpipe.yaml_text import yaml_text


def folder_of(plan: Plan) -> RunFolder:
    """The run folder of a plan."""
    return RunFolder(Path(plan.run_dir))


def write_plan(plan: Plan) -> Path:
    """Writes the three files, each atomically, and returns the path of plan.json.

    Secrets are left out: the parent has them in memory, and the workers get them through their environment.
    """
    tracking = plan.experiment.tracking
    remember_secrets({**plan.experiment.launcher.env, **tracking.tags}, tracking.uri)
    folder = folder_of(plan)
    folder.path.mkdir(parents=True, exist_ok=True)
    plan = without_secrets(plan)
    write_json(folder.ds_config, plan.ds_config)
    write_text(folder.config, yaml_text(plan.experiment.model_dump()))
    return write_json(folder.plan, plan.model_dump(mode="json"))


def read_plan(path: Path) -> Plan:
    """Reads a plan.json, or the one inside a run folder. Raises Refusal for anything else."""
    file = path / PLAN_NAME if path.is_dir() else path
    return read_model(Plan, file, "plan", f"a run folder, or a {PLAN_NAME}")


def read_plan_here(folder: RunFolder) -> Plan:
    """The plan of a run folder that may have been moved: its paths are those of the folder now."""
    return read_plan(folder.path).model_copy(update={"run_dir": str(folder.path)})
