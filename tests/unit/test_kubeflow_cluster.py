"""launcher=kubeflow: a job is submitted, followed and ends as its conditions tell."""

import json
from pathlib import Path

import pytest

from tests.support.kubernetes import KUBEFLOW, documents, schema_problems
from tests.support.planning import plan_of
from zpipe.cli.main import main
from zpipe.exits import Exit
from zpipe.problems import Refusal
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.running import trainjob, waiting
from zpipe.running.start import Start
from zpipe.running.trainjob import state_of, submit_trainjob

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
    plan = plan_of(*KUBEFLOW, "launcher.kubeflow.name=job", *more, run_dir=run_dir)
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
    assert main([*KUBEFLOW, run_dir, "launcher.nodes=2"]) == Exit.FAILED
    cluster.refuse("Error from server (Forbidden): no")
    assert main([*KUBEFLOW, run_dir, "launcher.nodes=2"]) == Exit.REFUSED


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
