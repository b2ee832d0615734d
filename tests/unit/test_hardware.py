"""The group `hardware`: the machine that a plan is for, and the only table of GPUs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import zpipe
from tests.support.planning import CPU, GIB, H200, gpus, plan_of
from tests.support.process import REPOSITORY
from zpipe.cli.main import main
from zpipe.compose.recipe_rules import recipe_problems
from zpipe.machine import hardware
from zpipe.machine.cards import card_named, count_and_option, described_by, machine_kinds
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.machine.lacking import lacking
from zpipe.machine.target import target_hardware
from zpipe.problems import Refusal
from zpipe.schema.hardware import HardwareSettings, Tflops
from zpipe.schema.launcher import Launcher
from zpipe.schema.slurm import Slurm

Captured = pytest.CaptureFixture[str]
HERE = Launcher()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def target(here: Hardware = CPU, launcher: Launcher = HERE, **settings: object) -> Hardware:
    return target_hardware(HardwareSettings.model_validate(settings), launcher, here)


@pytest.mark.parametrize("option", machine_kinds())
def test_every_option_describes_a_machine_completely(option: str) -> None:
    found = target(**described_by(option).given())
    assert len(found.gpus) >= 1
    gpu = found.gpus[0]
    assert gpu.tflops is not None
    assert (gpu.tflops.fp16 or 0) >= (gpu.tflops.fp32 or 0) > 0
    assert (gpu.tflops.bf16 is not None) == (gpu.compute_capability >= (8, 0))
    assert (gpu.tflops.fp8 is not None) == (gpu.compute_capability >= (8, 9))
    assert None not in (gpu.link_gb_s, gpu.host_link_gb_s, found.network_gb_s)
    assert found.memory > len(found.gpus) * gpu.memory / 2


@pytest.mark.parametrize("option", machine_kinds())
def test_the_card_of_every_option_is_known_by_its_name(option: str) -> None:
    described = described_by(option)
    assert described.name is not None
    assert card_named(described.name) == described


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM2e", "NVIDIA H200 NVL", "Tesla V100S-PCIE-32GB", "", "x" * 999]
)
def test_a_card_of_another_name_is_not_taken_for_a_known_one(name: str) -> None:
    assert card_named(name) is None


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA A100-PCIE-40GB", "a100_pcie_40gb"),
        ("NVIDIA A100 80GB PCIe", "a100_pcie_80gb"),
        ("Tesla V100-PCIE-16GB", "v100_pcie_16gb"),
        ("Tesla V100-PCIE-32GB", "v100_pcie_32gb"),
    ],
)
def test_a_pcie_card_is_slower_than_the_one_on_a_board(name: str, option: str) -> None:
    found = card_named(name)
    assert found == described_by(option)
    assert found.gpu_link_gb_s == found.host_link_gb_s  # no NVLink
    on_a_board = described_by(option.replace("pcie_", "").replace("pcie", "80gb"))
    assert (found.tflops.fp16 or 0) <= (on_a_board.tflops.fp16 or 0)
    assert (found.gpu_link_gb_s or 0) < (on_a_board.gpu_link_gb_s or 0)


@pytest.mark.parametrize("option", machine_kinds())
def test_a_request_names_the_option(option: str) -> None:
    for name in (option, option.upper().replace("_", "-")):
        assert count_and_option(f"8x{name}", "key", "key=") == (8, option)


def test_h100_is_the_one_of_80_gb_and_a100_is_not_enough() -> None:
    assert count_and_option("2*h100", "key", "key=") == (2, "h100_80gb")
    with pytest.raises(Refusal) as refused:
        count_and_option("2xA100", "key", "key=")
    assert refused.value.problems[0].allowed == "a100_40gb or a100_80gb"
    assert refused.value.problems[0].fix.startswith("key=2xa100_80gb, or key=2xa100_40gb")


def test_nothing_described_is_the_machine_at_hand() -> None:
    here = replace(gpus(H200), visible_gpus=("0",), free_disk=lambda _: 5)
    assert replace(target(here), gpus=here.gpus) == here


def test_a_gpu_at_hand_gets_what_is_known_of_its_card() -> None:
    (gpu,) = target(gpus(H200)).gpus
    assert gpu.tflops == described_by("h200").tflops
    assert (gpu.memory, gpu.link_gb_s) == (H200.memory, 450)
    (unknown,) = target(gpus(replace(H200, name="NVIDIA X1"))).gpus
    assert (unknown.tflops, unknown.link_gb_s) == (None, None)


def test_each_key_replaces_one_fact() -> None:
    found = target(gpus(H200), gpu_memory_gib=24, cores=3, tflops={"bf16": 500})
    (gpu,) = found.gpus
    assert (gpu.memory, gpu.compute_capability, found.cores) == (24 * GIB, (9, 0), 3)
    assert gpu.tflops == Tflops(**{**described_by("h200").tflops.model_dump(), "bf16": 500})


def test_a_named_card_is_described_by_its_option() -> None:
    found = target(gpus(H200), name="NVIDIA L4", gpus_per_node=2)
    assert [gpu.memory for gpu in found.gpus] == [round(22.49 * GIB)] * 2


def test_what_other_processes_hold_counts_as_far_as_it_is_in_the_way() -> None:
    busy = gpus(replace(H200, used=20 * GIB))
    assert target(busy).gpus[0].used == 20 * GIB
    assert target(busy, gpu_memory_gib=100).gpus[0].used == 0
    assert target(busy, gpu_memory_gib=131).gpus[0].used == 10 * GIB


class Nvml:
    """A driver with one GPU of 80 GiB, of which 3 GiB are taken and 1 GiB is the driver's own."""

    class NVMLError(Exception):
        pass

    nvmlMemory_v2 = 2  # noqa: N815 - NVML's name

    def __init__(self, is_old: bool) -> None:
        self.is_old = is_old

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {"nvmlDeviceGetName": "NVIDIA H100 NVL", "nvmlDeviceGetCudaComputeCapability": (9, 0)}
        return lambda *_: answers.get(name)

    def nvmlDeviceGetMemoryInfo(self, handle: object, version: int = 1) -> SimpleNamespace:  # noqa: N802
        if version == 2 and self.is_old:
            raise self.NVMLError
        return SimpleNamespace(total=80 * GIB, used=3 * GIB if version == 2 else 4 * GIB)


def test_memory_in_use_is_detected_and_the_drivers_own_is_no_use_of_it() -> None:
    assert hardware._gpu(Nvml(is_old=False), 0) == Gpu("NVIDIA H100 NVL", 80 * GIB, (9, 0), used=3 * GIB)
    assert hardware._gpu(Nvml(is_old=True), 0).used == 4 * GIB


def test_less_gpu_memory_is_planned_and_the_worker_gets_the_limit() -> None:
    plan = plan_of("hardware.gpu_memory_gib=24", hardware=gpus(H200, H200))
    assert (plan.launch.gpu_memory, plan.launch.nproc_per_node) == (24 * GIB, 2)
    assert plan_of(hardware=gpus(H200)).launch.gpu_memory is None
    assert (
        plan_of("hardware.gpu_memory_gib=24", "launcher.device=cpu", hardware=gpus(H200)).launch.gpu_memory
        is None
    )


def test_a_cluster_is_planned_on_a_laptop_and_nothing_is_written(tmp_path: Path, capsys: Captured) -> None:
    cluster = [
        "hardware=h100_80gb",
        "hardware.gpus_per_node=4",
        "launcher.nodes=16",
        "launcher.master_addr=a",
    ]
    assert main(["plan", *cluster, "precision=bf16", f"hydra.run.dir={tmp_path}/run"]) == 0
    text = capsys.readouterr().out
    assert "4 x NVIDIA H100 80GB HBM3, 192 cores, 2.0 TiB of host memory" in text
    assert "cuda, 64 processes" in text
    assert list(tmp_path.iterdir()) == []


def test_flags_and_overrides_that_describe_the_same_machine_give_the_same_plan(capsys: Captured) -> None:
    def planned(*arguments: str) -> object:
        assert main(["plan", "precision=bf16", "hydra.run.dir=run", "--format=json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    flags = planned("--gpus", "8xA100-40GB", "--host-memory", "512", "--cores", "64")
    options = ["hardware=a100_40gb", "hardware.gpus_per_node=8"]
    assert planned(*options, "hardware.host_memory_gib=512.0", "hardware.cores=64") == flags


def test_a_run_on_another_machine_than_described_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: Captured
) -> None:
    assert main(["hardware=h100_80gb", "precision=bf16"]) == 2
    message = capsys.readouterr().err
    assert "hardware.gpus_per_node=8: this machine has 0 that PyTorch can use" in message
    assert "hardware.host_memory_gib=2048" in message
    assert "hardware=here, or hardware.host_memory_gib=null" in message
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", "hardware=h100_80gb", "precision=bf16"]) == 2
    with pytest.raises(Refusal):
        zpipe.run("hardware=h100_80gb", "precision=bf16")


def test_a_machine_with_more_than_described_will_do_and_one_with_less_will_not() -> None:
    here = gpus(H200, H200)
    assert list(lacking(HardwareSettings(gpus_per_node=2, gpu_memory_gib=79.65, cores=16), here)) == []
    assert list(lacking(HardwareSettings(gpu_memory_gib=143), here)) == []  # what the driver keeps
    described = HardwareSettings(
        gpus_per_node=4, gpu_memory_gib=180, compute_capability="10.0", host_memory_gib=512, cores=17
    )
    names = ("gpus_per_node", "gpu_memory_gib", "compute_capability", "host_memory_gib", "cores")
    assert [problem.key for problem in lacking(described, here)] == [f"hardware.{name}" for name in names]


def test_a_job_of_slurm_asks_for_the_gpus_that_are_described() -> None:
    plan = plan_of("hardware=h200", "launcher=slurm", "launcher.nodes=2")
    script = plan.launch.files["job.sh"]
    assert (plan.launch.device, plan.launch.world_size) == ("cuda", 16)
    assert "#SBATCH --gres=gpu:8\n" in script
    assert "hardware.host_memory_gib=null hardware.cores=null" in script  # the job has what Slurm gives to it
    assert "--mem" not in script


def test_a_request_to_slurm_is_completed_by_the_settings() -> None:
    launcher = Launcher(type="slurm", slurm=Slurm(gpus="4xH100", cpus_per_task=32))
    found = target(CPU, launcher, gpu_memory_gib=40)
    assert len(found.gpus) == 4
    assert (found.gpus[0].memory, found.cores, found.memory) == (40 * GIB, 32, 2048 * GIB)


def test_pods_have_the_gpus_that_are_described() -> None:
    pods = (
        "launcher=kubeflow",
        "launcher.kubeflow.image=registry.example/zpipe:1",
        "launcher.kubeflow.volumes=['runs:/shared']",
        "tracking=none",
    )
    plan = zpipe.plan(*pods, "hardware=a100_80gb", "hardware.gpus_per_node=4", "precision=bf16")
    job = plan.launch.files["trainjob.yaml"]
    assert plan.launch.nproc_per_node == 4
    assert 'nvidia.com/gpu: "4"' in job
    assert '"hardware.cores=null"' in job
    assert plan_of(*pods, hardware=gpus(H200)).launch.device == "cpu"


def test_a_recipe_may_describe_a_machine() -> None:
    assert list(recipe_problems({"hardware": {"gpus_per_node": 8, "name": "\x1b[31m"}}, "a.yaml")) == []
    with pytest.raises(Refusal):
        plan_of('hardware.name="\x1b[31m"')


def test_the_table_of_peaks_in_the_documentation_is_that_of_the_options() -> None:
    page = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
    table = page.partition("| option | bf16 |")[2]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| `")]
    shown = {cells[0].strip(" `"): [cell.strip().replace(",", "") for cell in cells[1:]] for cells in rows}
    peaks = {option: described_by(option).tflops.model_dump().values() for option in machine_kinds()}
    wanted = {
        option: ["" if peak is None else f"{peak:g}" for peak in values] for option, values in peaks.items()
    }
    assert shown == wanted
