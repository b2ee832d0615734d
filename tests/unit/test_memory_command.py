"""`zpipe memory` and the line of `zpipe plan`: tables that add up, with the limit and the verdict."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.planning import CPU, GIB, H200, gpus, plan_of
from tests.support.predictions import prediction
from zpipe.cli.main import main
from zpipe.machine.hardware import Hardware
from zpipe.plans.memory import MemoryPrediction
from zpipe.plans.plan import Plan
from zpipe.terminal.memory_text import memory_line
from zpipe.terminal.plan_text import facts

Captured = pytest.CaptureFixture[str]
COMMAND = ["memory", "model=llama3_8b", "stage=3", "--gpus", "2xH100", "--host-memory", "128"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    _predict(monkeypatch, prediction())


def _predict(monkeypatch: pytest.MonkeyPatch, known: MemoryPrediction | None) -> None:
    for module in ("zpipe.checks.memory", "zpipe.compile.compiler"):
        monkeypatch.setattr(f"{module}.predict_memory", lambda experiment, facts, *, reserves=True: known)


def _tables(text: str) -> list[list[tuple[str, float]]]:
    """Name and GiB of each line of each table; terms are indented, sums are not."""
    found: list[list[tuple[str, float]]] = []
    for line in text.splitlines():
        row = re.match(r"^( *\S(?: ?\S)*) {2,}([\d,]+\.\d{3})(?: |$)", line)
        if row is not None:
            found[-1].append((row[1], float(row[2].replace(",", ""))))
        elif line.startswith(("GPU, ", "host, ", "disk ")):
            found.append([])
    return found


@pytest.mark.usefixtures("by_hand")
def test_each_sum_is_that_of_the_lines_above_it(capsys: Captured) -> None:
    assert main(COMMAND) == 0
    gpu, host = _tables(capsys.readouterr().out)
    for table in (gpu, host):
        total = 0.0
        for name, value in table:
            if name.startswith("  ") or name == "other ranks":
                total += value
            else:
                assert value == pytest.approx(total, abs=2e-3), name
    assert [name for name, _ in gpu if not name.startswith("  ")] == ["allocated", "reserved", "used"]
    assert host[-1] == ("node", 12.3)


@pytest.mark.usefixtures("by_hand")
def test_tables_have_formulas_sources_limits_and_verdicts(capsys: Captured) -> None:
    main(COMMAND)
    out = capsys.readouterr().out
    assert re.search(r"^  CUDA context +0\.800 +0\.8 GiB +by hand", out, re.MULTILINE)
    assert re.search(r"^used +30\.900 +±5%, of 79\.2 GiB: fits", out, re.MULTILINE)
    assert re.search(r"^node +12\.300 +±5%, of 128\.0 GiB: fits", out, re.MULTILINE)
    assert re.search(r"^each GPU: allocated +28\.5 +69\.3", out, re.MULTILINE)
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_data_has_prediction_sums_limits_and_the_estimate_of_deepspeed(form: str, capsys: Captured) -> None:
    import yaml

    assert main([*COMMAND, "--format", form]) == 0
    out = capsys.readouterr().out
    data = json.loads(out) if form == "json" else yaml.safe_load(out)
    assert data["prediction"]["gpu"]["cache"]["terms"][0]["name"] == "fragments"
    assert data["totals"]["gpu"]["used"] == pytest.approx(30.9 * GIB, abs=2)
    assert [fit["verdict"] for fit in data["fits"]] == ["fits", "fits"]
    assert set(data["deepspeed"]) == {"host", "gpu"}


SWAPPING = ("model=llama3_8b", "stage=3", "offload=nvme", "hardware=a100_80gb", "hardware.gpus_per_node=1")


def test_the_limit_of_the_disk_is_that_of_the_swap_files_in_text_and_data(capsys: Captured) -> None:
    """Checkpoints are a row of their own: they may lie on another disk."""
    described = (*SWAPPING, "hardware.host_memory_gib=128", "hardware.nvme_gib=200", "data.max_length=512")
    assert main(["memory", *described]) == 0
    text = capsys.readouterr().out
    assert main(["memory", *described, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    fit, disk = data["fits"][-1], data["totals"]["disk"]
    assert (fit["resource"], fit["used"]) == ("disk", disk["swap_files"])
    assert disk["swap_files"] + disk["checkpoints"] == disk["total"]
    rows = dict(_tables(text)[-1])
    for name, row in (("swap_files", "swap files"), ("checkpoints", "  checkpoints"), ("total", "total")):
        assert rows[row] == pytest.approx(disk[name] / GIB, abs=1e-3)
    limited = [line for line in text.splitlines() if "of 200.0 GiB" in line]
    assert [line.split("  ")[0] for line in limited] == ["swap files"]
    swapped, kept = (f"{disk[name] / GIB:,.1f} GiB" for name in ("swap_files", "checkpoints"))
    assert f"; swap files {swapped} of 200.0: {fit['verdict']}; checkpoints {kept}" in text


def test_a_plan_that_does_not_fit_is_shown_with_that_verdict(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    _predict(monkeypatch, prediction(100.0))
    assert main(COMMAND) == 0
    assert "of 79.2 GiB: does not fit" in capsys.readouterr().out
    assert main(["plan", *COMMAND[1:]]) == 2


def test_a_model_whose_sizes_are_unknown_has_no_tables(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    _predict(monkeypatch, None)
    assert main([*COMMAND, "stage=1"]) == 0
    out = capsys.readouterr().out
    assert "no prediction: the sizes of the model" in out
    assert "DeepSpeed has no estimate for this stage and offload" in out


def test_other_problems_and_sweeps_are_refused(capsys: Captured) -> None:
    assert main(["memory", "stage=2", "offload=nvme"]) == 2
    assert "offload.offload_param.device" in capsys.readouterr().err
    assert main(["memory", "stage=2,3"]) == 2


def _line(known: MemoryPrediction, hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> str:
    _predict(monkeypatch, known)
    plan = plan_of(hardware=hardware)
    assert dict(facts(plan))["memory"] == memory_line(plan)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    return memory_line(plan)


def test_summary_of_a_plan_has_one_line_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _line(prediction(), gpus(H200, H200), monkeypatch) == (
        "GPU 28.5 GiB allocated, 30.1 reserved, 30.9 used of 140.3: fits; host 12.3 GiB of 128.0: fits"
    )
    assert _line(prediction(None, ranks=1), CPU, monkeypatch) == "host 6.3 GiB of 24.0: fits"
    with_disk = replace(gpus(H200), free_disk=lambda _: 90 * GIB)
    assert _line(prediction(disk_gib=40.0), with_disk, monkeypatch).endswith("; swap files 40.0 GiB")
