"""plan.json, ds_config.json and config.yaml in the run folder."""

from collections.abc import Mapping
from pathlib import Path

from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem, Refusal
from zpipe.redact import remember_secrets
from zpipe.runfolder.atomic import json_text, read_model, write_text
from zpipe.runfolder.folder import CONFIG_NAME, DS_CONFIG_NAME, LAUNCH_NAME, PLAN_NAME, RunFolder
from zpipe.runfolder.foreign_files import read_text
from zpipe.yaml_text import yaml_text


def folder_of(plan: Plan) -> RunFolder:
    """The run folder of a plan."""
    return RunFolder(Path(plan.run_dir))


def write_plan(plan: Plan) -> Plan:
    """Writes the three files, each atomically, and returns the plan as they hold it.

    Secrets are left out: the parent has them in memory, and the workers get them through their environment.
    """
    tracking = plan.experiment.tracking
    remember_secrets({**plan.experiment.launcher.env, **tracking.tags}, tracking.uri)
    folder = folder_of(plan)
    folder.path.mkdir(parents=True, exist_ok=True)
    written = without_secrets(plan)
    write_launch_files(written)
    for name, text in _texts(written).items():
        write_text(folder.path / name, text)
    return written


def write_launch_files(plan: Plan) -> None:
    """Writes what the launcher reads, of a plan without secrets.

    Raises Refusal if their folder is a link, which may lead anywhere.
    """
    folder = folder_of(plan)
    if not plan.launch.files:
        return
    if folder.launch.is_symlink():
        reason = f"its folder {LAUNCH_NAME} is a link"
        raise Refusal([Problem("hydra.run.dir", plan.run_dir, reason, "a new folder")])
    folder.launch.mkdir(parents=True, exist_ok=True)
    for name, text in plan.launch.files.items():
        write_text(folder.launch / name, text)


def is_only_planned(folder: RunFolder) -> bool:
    """Whether the folder holds a plan for itself, as `zpipe plan` wrote it, and nothing of a run.

    A file that was edited since belongs to the user.
    """
    found = folder.occupied_by()
    if PLAN_NAME not in found or not set(found) <= {PLAN_NAME, DS_CONFIG_NAME, CONFIG_NAME, LAUNCH_NAME}:
        return False
    try:
        plan = read_plan(folder.path)
        expected = {**_texts(plan), **_launch_texts(plan)}
        there = [name for name in found if name != LAUNCH_NAME] + _names_below(folder.launch)
        is_unchanged = all(read_text(folder.path / name) == expected.get(name) for name in there)
    except (Refusal, OSError, UnicodeDecodeError):
        return False
    return is_unchanged and Path(plan.run_dir) == folder.path


def read_plan(path: Path) -> Plan:
    """Reads a plan.json, or the one inside a run folder. Raises Refusal for anything else."""
    file = path / PLAN_NAME if path.is_dir() else path
    return read_model(Plan, file, "plan", f"a run folder, or a {PLAN_NAME}")


def read_plan_here(folder: RunFolder) -> Plan:
    """The plan of a run folder that may have been moved: its paths are those of the folder now."""
    return read_plan(folder.path).model_copy(update={"run_dir": str(folder.path)})


def _texts(plan: Plan) -> Mapping[str, str]:
    """The files of a plan by their names, plan.json last."""
    return {
        DS_CONFIG_NAME: json_text(plan.ds_config),
        CONFIG_NAME: yaml_text(plan.experiment.model_dump()),
        PLAN_NAME: json_text(plan.model_dump(mode="json")),
    }


def _launch_texts(plan: Plan) -> Mapping[str, str]:
    return {f"{LAUNCH_NAME}/{name}": text for name, text in plan.launch.files.items()}


def _names_below(launch: Path) -> list[str]:
    if launch.is_symlink():
        return [LAUNCH_NAME]
    return [f"{LAUNCH_NAME}/{file.name}" for file in launch.iterdir()] if launch.is_dir() else []
