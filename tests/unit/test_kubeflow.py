"""launcher=kubeflow: a TrainJob that Kubeflow's schema accepts, without secrets, with hostile names too."""

import json
import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import zpipe
from tests.support.kubernetes import documents, expanded, pod_arguments, schema_problems
from tests.support.planning import CPU, plan_of, problems_of
from zpipe.cli.main import main
from zpipe.compose.compose import compose_once
from zpipe.compose.option_folders import use_config_dir
from zpipe.compose.overrides import rewrite
from zpipe.compose.queued import settled
from zpipe.compose.recipe_rules import POD_KEYS, recipe_problems
from zpipe.exits import Exit
from zpipe.launchers import launcher_of
from zpipe.launchers.base import Job, Settled
from zpipe.launchers.kubeflow import job_name
from zpipe.problems import Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.running import trainjob, waiting
from zpipe.running.start import Start
from zpipe.running.trainjob import state_of, submit_trainjob
from zpipe.schema.experiment import Experiment
from zpipe.schema.kubeflow import JOB_NAME, Kubeflow
from zpipe.schema.launcher import Launcher
from zpipe.trees import unflatten

CHOSEN = (
    "launcher=kubeflow",
    "launcher.kubeflow.image=registry.example/zpipe:1",
    "launcher.kubeflow.volumes=['runs:/shared']",
    "tracking=none",
)
EVERYTHING = (
    "launcher.nodes=2",
    "launcher.kubeflow.runtime=torch-distributed",
    "launcher.kubeflow.name=my-job",
    "launcher.kubeflow.namespace=team-a",
    "launcher.kubeflow.gpus=8xH100",
    "launcher.kubeflow.cpu=64",
    "launcher.kubeflow.memory=480Gi",
    "launcher.kubeflow.volumes=['runs:/shared','models.v1:/models/a']",
    "launcher.kubeflow.env_from=['hub/token/HF_TOKEN','mlflow/MLFLOW_TRACKING_URI']",
    "launcher.kubeflow.service_account_name=trainer",
    "launcher.kubeflow.node_selector=['cloud.example/gpu=h100']",
)
TEXTS = st.text(st.sampled_from("aB3 '\"\\$(){}[]:,=#%&*!|>@`\n\té日-./"), min_size=1, max_size=20)


def rendered(*more: str) -> str:
    return zpipe.plan(*CHOSEN, *more).launch.files["trainjob.yaml"]


@pytest.mark.parametrize("more", [(), EVERYTHING])
def test_the_schema_of_kubeflow_trainer_accepts_the_job(more: tuple[str, ...]) -> None:
    config_map, train_job = documents(rendered(*more))
    assert list(schema_problems(train_job)) == []
    assert (config_map["kind"], set(config_map["data"])) == ("ConfigMap", {"recipe.yaml"})
    assert config_map["metadata"] == train_job["metadata"]


def test_the_schema_refuses_fields_that_it_does_not_know() -> None:
    _, train_job = documents(rendered())
    train_job["spec"]["trainer"]["workingDir"] = "/"
    assert "workingDir" in " ".join(schema_problems(train_job))


def test_what_the_runtime_decides_can_be_left_to_it() -> None:
    assert "terminationGracePeriodSeconds: 120" in rendered()
    left = rendered("launcher.kubeflow.termination_grace_period_seconds=null")
    assert "terminationGracePeriodSeconds" not in left


def test_settings_are_where_kubernetes_reads_them() -> None:
    _, train_job = documents(rendered(*EVERYTHING))
    trainer = train_job["spec"]["trainer"]
    resources = {"cpu": "64", "memory": "480Gi", "nvidia.com/gpu": "8"}
    assert trainer["resourcesPerNode"] == {"limits": resources, "requests": resources}
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    (patch,) = train_job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("trainer", {"cloud.example/gpu": "h100"})
    claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [{"claimName": "runs"}, {"claimName": "models.v1"}]
    mounts = {each["mountPath"]: each.get("readOnly", False) for each in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"/etc/zpipe": True, "/dev/shm": False, "/shared": False, "/models/a": False}


@given(folder=TEXTS, value=TEXTS)
@settings(max_examples=40, deadline=None)
def test_a_pod_gets_every_text_as_it_is(folder: str, value: str) -> None:
    given_settings = Launcher(kubeflow=Kubeflow(volumes=["runs:/shared"]))
    run = RunFolder(Path("/shared") / f"x{folder}")
    job = Job(run, run.numbered(1), given_settings, "cpu", 1, settled=Settled(value, (f"note={value}",)))
    config_map, train_job = documents(launcher_of("kubeflow").render(job).files["trainjob.yaml"])
    assert config_map["data"]["recipe.yaml"] == value
    arguments = pod_arguments(train_job, {"HOME": "/root", "a": "wrong"})
    assert arguments[:3] == ["zpipe", "recipe=/etc/zpipe/recipe.yaml", f"note={value}"]
    parsed = OverridesParser.create().parse_override(arguments[4])
    assert (parsed.key_or_group, str(parsed.value())) == ("hydra.run.dir", str(run.path))
    assert arguments[5:] == [
        "launcher.nodes=${oc.env:PET_NNODES}",
        "launcher.nproc_per_node=${oc.env:PET_NPROC_PER_NODE}",
        "launcher.node_rank=${oc.env:PET_NODE_RANK}",
        "launcher.master_addr=${oc.env:PET_MASTER_ADDR}",
        "launcher.master_port=${oc.env:PET_MASTER_PORT}",
    ]


def test_kubernetes_expands_what_is_not_escaped() -> None:
    assert expanded("$(HOME) $$(HOME) $(no) $$${x}", {"HOME": "/root"}) == "/root $(HOME) $(no) $${x}"


@given(folder=TEXTS)
def test_a_name_derived_from_any_folder_is_one_that_kubernetes_accepts(folder: str) -> None:
    name = job_name(Kubeflow(), RunFolder(Path("/runs") / f"x{folder}"))
    assert re.fullmatch(JOB_NAME, name)
    assert name == job_name(Kubeflow(), RunFolder(Path("/runs") / f"x{folder}"))
    assert name != job_name(Kubeflow(), RunFolder(Path("/other") / f"x{folder}"))


@pytest.mark.parametrize(
    ("local", "in_pods"),
    [("/shared/runs/a", "/shared/runs/a"), ("/home/me/a", "/shared/job"), ("/sharedx/a", "/shared/job")],
)
def test_the_run_folder_of_the_pods_is_on_a_volume(local: str, in_pods: str, tmp_path: Path) -> None:
    plan = plan_of(*CHOSEN, "launcher.kubeflow.name=job", run_dir=Path(local))
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
    composed = compose_once(rewrite([*CHOSEN[:3], *overrides]))
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
        made = settled(compose_once(rewrite([*CHOSEN, f"offload={name}"])))
    finally:
        use_config_dir(None)
    assert "mine" not in made.recipe
    assert composed_in_a_pod(made, tmp_path).offload.offload_optimizer.device == "cpu"


def test_a_store_in_the_environment_reaches_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an override: a recipe may not choose the store of pods that have credentials."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    made = settled(compose_once(rewrite([*CHOSEN, "tracking=mlflow"])))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "from-a-secret")
    assert composed_in_a_pod(made, tmp_path).tracking.uri == "http://mlflow:5000"


def test_a_store_in_a_secret_replaces_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://u:s3cretword@h/x")
    named = "launcher.kubeflow.env_from=['mlflow/MLFLOW_TRACKING_URI']"
    made = settled(compose_once(rewrite([*CHOSEN, "tracking=mlflow", named])))
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
        zpipe.plan(*CHOSEN, "tracking=mlflow", override)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (key, "***")
    assert "launcher.kubeflow.env_from=['SECRET/KEY/" in problem.fix


def test_a_secret_is_named_and_read_by_kubernetes() -> None:
    _, train_job = documents(rendered(*EVERYTHING))
    named = {each["name"]: each.get("valueFrom") for each in train_job["spec"]["trainer"]["env"]}
    assert named["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert named["MLFLOW_TRACKING_URI"] == {"secretKeyRef": {"name": "mlflow", "key": "MLFLOW_TRACKING_URI"}}


def test_the_plan_is_made_for_the_gpus_of_the_pods() -> None:
    plan = plan_of(*CHOSEN, *EVERYTHING, hardware=CPU)
    assert (plan.launch.device, plan.launch.nproc_per_node, plan.launch.world_size) == ("cuda", 8, 16)
    (problem,) = problems_of(*CHOSEN, "launcher.kubeflow.gpus=8xA9000")
    assert (problem.key, problem.reason) == ("launcher.kubeflow.gpus", "no such GPU")


def test_data_of_this_machine_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("some words\n" * 500)
    found = zpipe.plan(*CHOSEN, f"data.path={tmp_path / 'train.txt'}").notices
    assert [each.key for each in found if "the pods see only /shared" in each.text] == ["data.path"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "UPPER"),
        ("name", "1-begins-with-a-digit"),
        ("name", "a" * 41),
        ("name", "ends-"),
        ("namespace", "a.b"),
        ("image", "a b"),
        ("image", "$(id)"),
        ("memory", "480GB"),
        ("volumes", ["claim:relative"]),
        ("volumes", ["CLAIM:/a"]),
        ("volumes", ["claim:/a\n"]),
        ("env_from", ["HF_TOKEN=hf_value"]),
        ("env_from", ["secret/key/not-a-variable"]),
        ("node_selector", ["no-value"]),
        ("service_account_name", "a\nb"),
    ],
)
def test_a_name_that_kubernetes_would_refuse_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Kubeflow.model_validate({field: value})


@pytest.mark.parametrize("key", sorted(POD_KEYS))
def test_a_recipe_chooses_nothing_that_runs_in_the_cluster(key: str) -> None:
    theirs = unflatten({key: "theirs", "launcher.kubeflow.gpus": "8xH100"})
    assert [problem.key for problem in recipe_problems(theirs, "theirs.yaml")] == [key]


CONDITION = {"status": "True", "message": "what happened"}


@pytest.mark.parametrize(
    ("status", "name", "is_active"),
    [
        ({}, "pending", True),
        ({"jobsStatus": [{"name": "node", "ready": 0}]}, "pending", True),
        ({"jobsStatus": [{"name": "node", "ready": 1}]}, "running", True),
        ({"conditions": [{**CONDITION, "type": "Suspended"}]}, "suspended", True),
        ({"conditions": [{**CONDITION, "type": "Suspended", "status": "False"}]}, "pending", True),
        (
            {"conditions": [{**CONDITION, "type": "Complete", "reason": "AllJobsCompleted"}]},
            "complete",
            False,
        ),
        ({"conditions": [{**CONDITION, "type": "Failed", "reason": "FailedJobs"}]}, "failed", False),
    ],
)
def test_the_state_of_a_job_is_in_its_conditions(
    status: dict[str, object], name: str, is_active: bool
) -> None:
    state = state_of(status)
    assert (state.name, state.is_active) == (name, is_active)


class Cluster:
    """A program `kubectl` that notes its calls and answers from files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        program = folder / "kubectl"
        program.write_text(
            "#!/bin/sh\n"
            f'cd {folder}; echo "$@" >> calls\n'
            'case "$1" in\n'
            "  create) cat refusal >&2 2>/dev/null && exit 1; exit 0 ;;\n"
            "  get) first=$(ls answers | head -n 1); last=$(ls answers | tail -n 1)\n"
            '    grep -q NotFound "answers/$first" && { cat "answers/$first" >&2; exit 1; }\n'
            '    cat "answers/$first"; [ "$first" = "$last" ] || rm "answers/$first" ;;\n'
            "esac\n"
        )
        program.chmod(0o755)
        (folder / "answers").mkdir()

    @property
    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()

    def answer(self, *texts: str) -> None:
        for number, text in enumerate(texts):
            (self._folder / "answers" / str(number)).write_text(text)

    def refuse(self, words: str) -> None:
        (self._folder / "refusal").write_text(words)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(waiting, "SILENT_LOOKS", 3)
    return Cluster(folder)


def submitted(run_dir: Path, *more: str) -> Outcome:
    plan = plan_of(*CHOSEN, "launcher.kubeflow.name=job", *more, run_dir=run_dir)
    return submit_trainjob(plan, Start())


def with_condition(kind: str, reason: str) -> str:
    return json.dumps({"status": {"conditions": [{**CONDITION, "type": kind, "reason": reason}]}})


@pytest.mark.parametrize(
    ("last", "ending"),
    [
        (with_condition("Complete", "AllJobsCompleted"), "finished"),
        (with_condition("Failed", "FailedJobs"), "failed"),
        (with_condition("Failed", "DeadlineExceeded"), "preempted"),
        ('Error from server (NotFound): trainjobs "job" not found', "terminated"),
        ("not JSON", "failed"),
    ],
)
def test_a_job_ends_as_its_conditions_tell(
    last: str, ending: Ending, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answer("{}", json.dumps({"status": {"jobsStatus": [{"name": "node", "ready": 1}]}}), last)
    outcome = submitted(tmp_path / "run")
    assert outcome.ending == ending
    shown = capsys.readouterr().err
    assert "TrainJob job: pending\nTrainJob job: running\n" in shown
    assert "created TrainJob job; its run folder is /shared/job" in shown


def test_a_job_is_checked_by_the_server_before_anything_is_created(cluster: Cluster, tmp_path: Path) -> None:
    outcome = submitted(tmp_path / "run", "launcher.wait=false")
    file = tmp_path / "run" / "launch" / "trainjob.yaml"
    assert outcome.ending == "submitted"
    assert [call.rpartition(" ")[0] for call in cluster.calls] == [
        f"create -f {file} --dry-run=server",
        f"create -f {file}",
    ]
    assert list(schema_problems(documents(file.read_text())[1])) == []


def test_the_command_line_ends_with_the_exit_code_of_the_job(cluster: Cluster, tmp_path: Path) -> None:
    cluster.answer(with_condition("Failed", "FailedJobs"))
    run_dir = f"hydra.run.dir={tmp_path / 'run'}"
    assert main([*CHOSEN, run_dir, "launcher.nodes=2"]) == Exit.FAILED
    cluster.refuse("Error from server (Forbidden): no")
    assert main([*CHOSEN, run_dir, "launcher.nodes=2"]) == Exit.REFUSED


def test_what_kubernetes_refuses_is_refused_with_its_words(cluster: Cluster, tmp_path: Path) -> None:
    cluster.refuse('Error from server (AlreadyExists): trainjobs "job" already exists')
    with pytest.raises(Refusal) as caught:
        submitted(tmp_path / "run")
    (problem,) = caught.value.problems
    assert 'Kubernetes says: Error from server (AlreadyExists): trainjobs "job"' in problem.reason
    assert "kubectl delete --ignore-not-found -f " in problem.fix
    assert len(cluster.calls) == 1


def test_a_machine_without_kubectl_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refusal) as caught:
        submitted(tmp_path / "run")
    assert caught.value.problems[0].reason == "kubectl is not installed here"


def test_an_interrupt_leaves_the_job(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainjob, "follow", interrupted)
    outcome = submitted(tmp_path / "run", "launcher.kubeflow.namespace=team-a")
    assert outcome.ending == "interrupted"
    assert "kubectl delete trainjob job --namespace=team-a ends it" in capsys.readouterr().err
    assert not [call for call in cluster.calls if call.startswith("delete")]
