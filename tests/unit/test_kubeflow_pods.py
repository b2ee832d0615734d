"""launcher=kubeflow: the pods compose the same experiment, and no secret is written."""

from pathlib import Path

import pytest

import zpipe
from tests.support.kubernetes import EVERYTHING, KUBEFLOW, documents, rendered
from tests.support.planning import CPU, plan_of, problems_of
from zpipe.compose.compose import compose_once
from zpipe.compose.option_folders import use_config_dir
from zpipe.compose.overrides import rewrite
from zpipe.compose.queued import settled
from zpipe.launchers.base import Settled
from zpipe.schema.experiment import Experiment


@pytest.mark.parametrize(
    ("local", "in_pods"),
    [("/shared/runs/a", "/shared/runs/a"), ("/home/me/a", "/shared/job"), ("/sharedx/a", "/shared/job")],
)
def test_the_run_folder_of_the_pods_is_on_a_volume(local: str, in_pods: str, tmp_path: Path) -> None:
    plan = plan_of(*KUBEFLOW, "launcher.kubeflow.name=job", run_dir=Path(local))
    _, train_job = documents(plan.launch.files["trainjob.yaml"])
    assert f"hydra.run.dir='{in_pods}'" in train_job["spec"]["trainer"]["args"]


COMPOSED = [
    (),
    ("stage=3", "offload=cpu", "precision=bf16", "train.max_steps=7", "optimizer=adafactor"),
    ("model.name_or_path=org/name", "resume.trust=true", "model.trust_remote_code=true", "zeropp=hpz"),
    ("tracking.run_name='5e7'", "tracking.tags.note='yes'", "launcher.env.NCCL_DEBUG='1e3'", "~profiler"),
    ("tracking.run_name='${train.max_steps}: \\${oc.env:HOME}'", "tracking.experiment=' a: b # c'"),
    ("+tracking.tags={a: 'x\ny', b: 'é\u2028 \\x85'}",),
]


@pytest.mark.parametrize("overrides", COMPOSED)
def test_pods_compose_the_same_experiment_without_the_files_of_the_user(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    composed = compose_once(rewrite([*KUBEFLOW[:3], *overrides]))
    again = composed_in_a_pod(settled(composed), tmp_path)
    assert without_launcher(again) == without_launcher(composed.experiment)
    assert again.launcher.env == composed.experiment.launcher.env


def without_launcher(experiment: Experiment) -> dict[str, object]:
    return experiment.model_dump(exclude={"launcher"})


def composed_in_a_pod(made: Settled, folder: Path) -> Experiment:
    (folder / "recipe.yaml").write_text(made.recipe, encoding="utf-8")
    return compose_once(rewrite([f"recipe={folder / 'recipe.yaml'}", *made.overrides])).experiment


@pytest.mark.parametrize("name", ["mine", "none"])
def test_own_options_reach_the_pods_as_values(name: str, tmp_path: Path) -> None:
    """Also one that has the name of an option of zpipe."""
    (tmp_path / "offload").mkdir()
    (tmp_path / "offload" / f"{name}.yaml").write_text("offload_optimizer: {device: cpu}\n")
    use_config_dir(str(tmp_path))
    try:
        made = settled(compose_once(rewrite([*KUBEFLOW, f"offload={name}"])))
    finally:
        use_config_dir(None)
    assert "mine" not in made.recipe
    assert composed_in_a_pod(made, tmp_path).offload.offload_optimizer.device == "cpu"


def test_a_store_in_the_environment_reaches_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an override: a recipe may not choose the store of pods that have credentials."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    made = settled(compose_once(rewrite([*KUBEFLOW, "tracking=mlflow"])))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "from-a-secret")
    assert composed_in_a_pod(made, tmp_path).tracking.uri == "http://mlflow:5000"


def test_a_store_in_a_secret_replaces_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:s3cretword@h/x")
    named = "launcher.kubeflow.env_from=['mlflow/MLFLOW_TRACKING_URI']"
    made = settled(compose_once(rewrite([*KUBEFLOW, "tracking=mlflow", named])))
    assert "s3cretword" not in made.recipe + "".join(made.overrides)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert composed_in_a_pod(made, tmp_path).tracking.uri == "http://mlflow:5000"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("launcher.env.HF_TOKEN=hf_abcdefghijklmnopq", "launcher.env.HF_TOKEN"),
        ("launcher.env.WHATEVER=value", "launcher.env.WHATEVER"),
        ("tracking.uri=postgresql://u:s3cretword@h/x", "tracking.uri"),
        ("tracking.tags.api_key=s3cretword", "tracking.tags.api_key"),
    ],
)
def test_a_secret_is_refused_and_not_written(override: str, key: str) -> None:
    with pytest.raises(zpipe.Refusal) as caught:
        zpipe.plan(*KUBEFLOW, "tracking=mlflow", override)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (key, "***")
    assert "launcher.kubeflow.env_from=['SECRET/KEY/" in problem.fix


def test_a_secret_is_named_and_read_by_kubernetes() -> None:
    _, train_job = documents(rendered(*EVERYTHING))
    named = {each["name"]: each.get("valueFrom") for each in train_job["spec"]["trainer"]["env"]}
    assert named["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert named["MLFLOW_TRACKING_URI"] == {"secretKeyRef": {"name": "mlflow", "key": "MLFLOW_TRACKING_URI"}}


def test_the_plan_is_made_for_the_gpus_of_the_pods() -> None:
    plan = plan_of(*KUBEFLOW, *EVERYTHING, hardware=CPU)
    assert (plan.launch.device, plan.launch.nproc_per_node, plan.launch.world_size) == ("cuda", 8, 16)
    (problem,) = problems_of(*KUBEFLOW, "launcher.kubeflow.gpus=8xA9000")
    assert (problem.key, problem.reason) == ("launcher.kubeflow.gpus", "no such GPU")


def test_data_of_this_machine_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("some words\n" * 500)
    found = zpipe.plan(*KUBEFLOW, f"data.path={tmp_path / 'train.txt'}").notices
    assert [each.key for each in found if "the pods see only /shared" in each.text] == ["data.path"]
