"""Jobs of Kubeflow Trainer: what their pods need, and do not have by themselves."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from zpipe.facts.facts import Facts
from zpipe.paths import expanded
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.variables import TRACKING_URI

_SERVER = "tracking.uri=http://mlflow.kubeflow:5000"
_VOLUME = "launcher.kubeflow.volumes=['claim:/shared']"


def pods_have_an_image(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    if _is_chosen(experiment) and experiment.launcher.kubeflow.image is None:
        key = "launcher.kubeflow.image"
        reason = "the image of a runtime does not have zpipe"
        fix = either(f"{key}=registry.example/zpipe:1")
        yield Problem(key, "null", reason, "an image in which zpipe is installed", fix)


def run_folder_outlives_the_pods(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    if _is_chosen(experiment) and not experiment.launcher.kubeflow.volumes:
        reason = "checkpoints and results would end with their pod: a volume keeps the run folder"
        allowed = "volume claims as CLAIM:/PATH"
        yield Problem("launcher.kubeflow.volumes", "[]", reason, allowed, either(_VOLUME))


def record_outlives_the_pods(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The default is a file in the working folder."""
    tracking, settings = experiment.tracking, experiment.launcher.kubeflow
    if not _is_chosen(experiment) or not tracking.enabled:
        return
    is_given = any(reference.endswith(f"/{TRACKING_URI}") for reference in settings.env_from)
    if tracking.uri is None and not is_given:
        reason = "the record would be a file of a pod, which ends with it"
        allowed = f"a server or database; or {TRACKING_URI} in launcher.kubeflow.env_from"
        yield Problem("tracking.uri", "null", reason, allowed, either(_SERVER, "tracking=none"))


def warn_about_paths_of_this_machine(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    if not _is_chosen(experiment):
        return
    places = [volume.partition(":")[2] for volume in experiment.launcher.kubeflow.volumes]
    paths = {
        "data.path": experiment.data.path,
        "model.name_or_path": experiment.model.name_or_path,
        "resume": experiment.resume.checkpoint,
    }
    for key, text in paths.items():
        path = None if not text else expanded(text)
        if path is None or not path.exists():
            continue
        if not any(PurePosixPath(path.absolute()).is_relative_to(place) for place in places):
            reason = f"{text} is a path of this machine, and the pods see only {', '.join(places)}"
            yield Notice(level="warning", key=key, text=reason)


def _is_chosen(experiment: Experiment) -> bool:
    return experiment.launcher.type == "kubeflow"


ERRORS = (pods_have_an_image, run_folder_outlives_the_pods, record_outlives_the_pods)
NOTICES = (warn_about_paths_of_this_machine,)
