"""Every registered launcher: what it renders, and that a shell passes each value on as it is."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.launchers import NEEDED
from tests.support.planning import CPU, H200, gpus, plan_of, problems_of
from tests.support.plans import run_in
from zpipe.compose.recipe_rules import recipe_problems
from zpipe.launchers import MODULES, launcher_of, names
from zpipe.launchers.base import Job
from zpipe.launchers.rank_exits import read_rank_exits
from zpipe.machine.hardware import visible_gpus
from zpipe.plans.plan import Plan
from zpipe.redact import redact, redact_override, remember_overrides
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import read_plan
from zpipe.running.requeue import requeue_if_preempted
from zpipe.running.start import for_attempt
from zpipe.schema.launcher import Launcher
from zpipe.schema.slurm import Slurm
from zpipe.terminal.plan_text import launch_command
from zpipe.train.signals import ENDED_BY_LAUNCHER
from zpipe.trees import unflatten

SPAWNING = [name for name in MODULES if launcher_of(name).spawns and not launcher_of(name).queues]
HOSTILE = [
    "plain",
    "two words",
    "$(touch x)",
    "`id`",
    "; rm -rf ~",
    "'",
    '"',
    "é ü 日本",
    "\\",
    "a\nb",
    "*",
    "&",
]
NAMES = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=4).map(" ".join)


def job_in(path: Path, processes: int = 1) -> Job:
    run = RunFolder(path)
    return Job(run, run.numbered(1), Launcher(), "cpu", processes)


@pytest.mark.parametrize("name", MODULES)
def test_rendering_is_pure(name: str, tmp_path: Path) -> None:
    job = job_in(tmp_path / "run")
    assert launcher_of(name).render(job) == launcher_of(name).render(job)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SPAWNING)
def test_the_command_ends_with_the_worker_and_its_run_folder(name: str, tmp_path: Path) -> None:
    argv = launcher_of(name).render(job_in(tmp_path / "run")).argv
    assert argv[-2:] == ["zpipe.train", str(tmp_path / "run")]
    assert argv[0] == sys.executable


@pytest.mark.parametrize("name", MODULES)
def test_an_option_file_chooses_the_launcher(name: str) -> None:
    plan = plan_of(f"launcher={name}", *NEEDED.get(name, ()))
    assert plan.launch.launcher == name
    assert launcher_of(name).queues or plan.launch.env["GLOO_SOCKET_IFNAME"] == "lo"


@pytest.mark.parametrize("name", SPAWNING)
def test_each_attempt_has_its_own_command(name: str, tmp_path: Path) -> None:
    plan = plan_of(f"launcher={name}", run_dir=tmp_path / "run")
    second = for_attempt(plan, RunFolder(tmp_path / "run").numbered(2))
    assert for_attempt(plan, RunFolder(tmp_path / "run").numbered(1)).launch == plan.launch
    assert "attempt-1" not in " ".join(second.launch.argv)


@pytest.mark.parametrize("name", SPAWNING)
@given(folder=NAMES, value=NAMES)
@settings(max_examples=12, deadline=None)
def test_a_shell_passes_every_value_of_the_printed_command_on(
    name: str, folder: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("printed")
    plan = with_stand_in(plan_of(f"launcher={name}", run_dir=place / folder), place, value)
    done = subprocess.run(["bash", "-c", launch_command(plan)], cwd=place, capture_output=True, check=True)
    *arguments, given_value = done.stdout.split(b"\0")[:-1]
    assert [each.decode() for each in arguments] == plan.launch.argv[1:]
    assert given_value.decode() == value
    assert {each.name for each in place.iterdir()} <= {"stand-in", folder}


def with_stand_in(plan: Plan, place: Path, value: str) -> Plan:
    """The plan with a variable of this value, and a program that prints its arguments instead of Python."""
    program = place / "stand-in"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" "$GIVEN"\n')
    program.chmod(0o755)
    argv = [str(program), *plan.launch.argv[1:]]
    launch = plan.launch.model_copy(update={"argv": argv, "env": {**plan.launch.env, "GIVEN": value}})
    return plan.model_copy(update={"launch": launch})


def test_accelerates_configuration_names_the_json_and_nothing_that_it_decides(tmp_path: Path) -> None:
    rendered = launcher_of("accelerate").render(job_in(tmp_path / "a $(b) é", processes=2))
    config = yaml.safe_load(rendered.files["accelerate.yaml"])
    assert config["deepspeed_config"] == {
        "deepspeed_config_file": str(tmp_path / "a $(b) é" / "ds_config.json")
    }
    assert (config["num_processes"], config["use_cpu"]) == (2, True)
    assert "mixed_precision" not in config


def test_deepspeeds_launcher_takes_the_gpus_that_zpipe_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3")
    job = replace(job_in(tmp_path), device="cuda", visible_gpus=visible_gpus())
    assert "--include=localhost:2" in launcher_of("deepspeed").render(job).argv
    unset = replace(job, visible_gpus=None)
    assert "--num_gpus=1" in launcher_of("deepspeed").render(unset).argv


def test_only_deepspeeds_launcher_refuses_gpus_by_uuid() -> None:
    hardware = replace(gpus(H200), visible_gpus=("GPU-8f3a",))
    (problem,) = problems_of("launcher=deepspeed", hardware=hardware)
    assert (problem.key, problem.fix) == ("CUDA_VISIBLE_DEVICES", "launcher=torchrun")
    assert problems_of("launcher=torchrun", hardware=hardware) == []


def test_an_unknown_launcher_is_refused_with_the_known_ones() -> None:
    (problem,) = problems_of("launcher.type=torchrum")
    assert problem.allowed == ", ".join(names())
    assert problem.fix == "launcher.type=torchrun"


@pytest.mark.parametrize("name", ["inprocess", "debug"])
def test_a_launcher_of_one_process_refuses_two(name: str) -> None:
    (problem,) = problems_of(f"launcher={name}", "launcher.nproc_per_node=2")
    assert (problem.key, problem.allowed) == ("launcher.nproc_per_node", "1")


def test_a_package_adds_a_launcher_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(
        "from zpipe.launchers.base import Launcher, Rendered\n"
        "class Theirs(Launcher):\n"
        "    def render(self, job):\n"
        "        return Rendered(['theirs', str(job.nproc_per_node), str(job.run.path)])\n"
    )
    installed = tmp_path / "theirs-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[zpipe.launchers]\ntheirs = theirs:Theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert names() == [*MODULES, "theirs"]
    plan = plan_of("launcher.type=theirs", "launcher.nproc_per_node=3", hardware=CPU)
    assert plan.launch.argv == ["theirs", "3", plan.run_dir]


DEEPSPEEDS_LOG = """\
[2026-11-26 16:47:03,210] [INFO] [launch.py:245:main] process 101 spawned with command: ['python']
[2026-11-26 16:47:03,211] [INFO] [launch.py:245:main] process 102 spawned with command: ['python']
[2026-11-26 16:47:09,300] [INFO] [launch.py:305:sigkill_handler] Killing subprocess 101
[2026-11-26 16:47:09,400] [ERROR] [launch.py:311:sigkill_handler] ['python'] exits with return code = -9
"""


def test_under_deepspeeds_launcher_the_failed_rank_is_the_one_that_it_did_not_end(tmp_path: Path) -> None:
    attempt = RunFolder(tmp_path).begin(1)
    attempt.logs.mkdir()
    attempt.launcher_log.write_text(DEEPSPEEDS_LOG)
    (attempt.logs / "20261126_rank0.log").write_text(f"step 1\n{ENDED_BY_LAUNCHER}\n")
    (attempt.logs / "20261126_rank1.log").write_text("step 1\n")
    assert [(each.rank, each.exit_code) for each in read_rank_exits(attempt)] == [(1, -9)]


def job_script(*overrides: str, run_dir: Path = Path("/runs/one")) -> str:
    return plan_of("launcher=slurm", *overrides, run_dir=run_dir).launch.files["job.sh"]


def test_the_script_of_a_slurm_job_has_the_options_of_the_schema_and_repeats_the_command() -> None:
    script = job_script(
        "stage=3",
        "launcher.nodes=2",
        "launcher.slurm.partition=a100",
        "launcher.slurm.time=1-12",
        "launcher.slurm.gpus=8xH100",
        "launcher.slurm.signal_s=300",
        "launcher.slurm.extra=['--exclude=n3']",
        "launcher.slurm.setup=['module load cuda']",
    )
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        "--nodes=2",
        "--ntasks-per-node=1",
        "--partition=a100",
        "--time=1-12",
        "--gres=gpu:8",
        "--signal=USR1@300",
        "--requeue",
        "--open-mode=append",
        "--exclude=n3",
    ]
    assert "\nmodule load cuda || exit 1\n" in script
    assert " stage=3 " in script.splitlines()[-1]
    assert script.splitlines()[-1].endswith("'launcher.master_port=${oc.env:ZPIPE_MASTER_PORT}'")


def test_a_slurm_job_is_planned_for_the_gpus_of_its_nodes() -> None:
    plan = plan_of("launcher=slurm", "launcher.slurm.gpus=8xH100", "launcher.nodes=4", hardware=CPU)
    assert (plan.launch.device, plan.launch.nproc_per_node, plan.launch.world_size) == ("cuda", 8, 32)
    (problem,) = problems_of("launcher=slurm", "launcher.slurm.gpus=8xA9000")
    assert (problem.key, problem.reason) == ("launcher.slurm.gpus", "no such GPU")


@pytest.mark.parametrize("value", ["a b", "a;b", "a'b", "$(id)", "a\nb", "`id`", ""])
def test_an_option_of_sbatch_is_one_word(value: str) -> None:
    with pytest.raises(ValidationError):
        Slurm(partition=value)


@given(folder=NAMES, value=NAMES)
@settings(max_examples=12, deadline=None)
def test_a_shell_passes_every_override_of_a_slurm_job_on(folder: str, value: str) -> None:
    job = replace(job_in(Path("/runs") / folder), command=("stage=3", f"launcher.env.NOTE={value}"))
    last = launcher_of("slurm").render(job).files["job.sh"].partition("exec ")[2]
    done = subprocess.run(
        ["bash", "-c", f"srun() {{ printf '%s\\0' \"$@\"; }}; {last}"], capture_output=True, check=True
    )
    arguments = [each.decode() for each in done.stdout.split(b"\0")[:-1]]
    command = arguments[arguments.index(sys.executable) :]
    assert command == [sys.executable, "-m", "zpipe", *job.command, *arguments[-2:]]
    parsed = OverridesParser.create().parse_override(arguments[-1])
    assert (parsed.key_or_group, str(parsed.value())) == ("hydra.run.dir", f"/runs/{folder}")


@pytest.mark.parametrize("key", ["launcher.env", "launcher.slurm", "launcher"])
def test_a_recipe_takes_no_block_from_elsewhere_which_could_hold_what_it_may_not_set(key: str) -> None:
    (problem,) = recipe_problems(unflatten({key: "${tracking.tags}"}), "theirs.yaml")
    assert problem.reason == "in theirs.yaml: a recipe may not take a whole block from elsewhere"


def test_a_secret_of_a_job_can_be_named_as_a_variable() -> None:
    override = "launcher.env.HF_TOKEN=${oc.env:HF_TOKEN}"
    assert redact_override(override) == override
    text = f"exec srun python -m zpipe '{override}' launcher.type=torchrun"
    remember_overrides([override])
    assert redact(text) == text
    assert "hf_abc" not in redact(text.replace("${oc.env:HF_TOKEN}", "hf_abcdefghijklmnopq"))


@pytest.mark.parametrize(
    ("marked", "saved", "asked"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_only_a_job_of_zpipe_with_a_new_checkpoint_is_requeued(
    marked: bool, saved: bool, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("ZPIPE_JOB", "1" if marked else "")
    run_in(tmp_path / "run", checkpoints=(20,) if saved else ())
    plan = read_plan(tmp_path / "run")
    requeue_if_preempted(
        plan, Outcome(ending="preempted", reason="SIGUSR1, saved at step 20", run_dir=plan.run_dir)
    )
    assert (tmp_path / "asked").exists() == asked


@pytest.mark.parametrize("key", ["setup", "extra", "mail_user"])
def test_a_recipe_runs_no_commands_in_a_job(key: str) -> None:
    (problem,) = recipe_problems({"launcher": {"slurm": {key: ["rm"]}}}, "theirs.yaml")
    assert problem.reason == "in theirs.yaml: a recipe may not run commands or send mail"
