"""launcher=kubeflow: a TrainJob that Kubeflow's schema accepts, with hostile names too."""

import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.kubernetes import (
    EVERYTHING,
    documents,
    expanded,
    pod_arguments,
    rendered,
    schema_problems,
)
from zpipe.compose.recipe_rules import POD_KEYS, recipe_problems
from zpipe.launchers import launcher_of
from zpipe.launchers.base import Job, Settled
from zpipe.launchers.kubeflow import job_name
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.kubeflow import JOB_NAME, Kubeflow
from zpipe.schema.launcher import Launcher
from zpipe.trees import unflatten

TEXTS = st.text(st.sampled_from("aB3 '\"\\$(){}[]:,=#%&*!|>@`\n\té日-./"), min_size=1, max_size=20)


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
