"""Model FLOPs of training, and their share of the peak (MFU)."""

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.planning import CPU, H200, gpus, plan_of
from zpipe.cli.run_table import print_runs
from zpipe.memory.flops import attention_width, matrix_elements
from zpipe.plans.flops import TrainingFlops
from zpipe.plans.plan import Plan
from zpipe.record.browse import RecordedRun
from zpipe.runfolder.progress import RunProgress
from zpipe.sweep.ledger import Attempt
from zpipe.sweep.report import as_row, write_report
from zpipe.terminal.plan_text import facts
from zpipe.terminal.summary import summary_rows
from zpipe.terminal.sweep_table import print_sweep
from zpipe.train.metrics import Stopwatch, Throughput

AUTOCAST = ("precision.torch_autocast.enabled=true", "precision.torch_autocast.dtype=bfloat16")
MOE = {"num_experts_per_tok": 2, "num_local_experts": 8}


def flops_of(plan: Plan) -> TrainingFlops:
    assert plan.flops is not None
    return plan.flops


def test_a_measured_speed_of_llama_3_2_1b_on_an_h200_is_the_utilization_that_papers_would_report() -> None:
    flops = flops_of(plan_of("model=llama3_1b", "precision=bf16", hardware=gpus(H200)))
    assert flops.weights == 6 * (16 * (2048 * (2048 + 512 + 512 + 2048) + 3 * 2048 * 8192) + 128256 * 2048)
    assert flops.attention == 12 * 16 * 32 * 64
    assert flops.peak == 989.4e12
    assert 0.54 < 66_600 * flops.per_token(2048) / flops.peak < 0.56


def test_head_counts_once_whether_it_is_tied_or_not() -> None:
    tied, untied = (plan_of(f"model.config.tie_word_embeddings={value}") for value in ("true", "false"))
    assert tied.flops == untied.flops


def test_heads_wider_than_the_hidden_size_count_in_the_attention() -> None:
    plan = plan_of("model.config.head_dim=128")
    config = plan.model.config
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    assert flops_of(plan).attention == 12 * layers * heads * 128


@pytest.mark.parametrize(
    "experts",
    [
        {f"mlp.experts.{number}.w1.weight": (32, 16) for number in range(8)},
        {"mlp.experts.gate_up_proj": (8, 32, 16), "mlp.experts.gate_up_proj_bias": (8, 32)},
    ],
    ids=["one by one", "in one tensor"],
)
def test_a_token_uses_some_experts_and_all_that_is_shared(experts: dict[str, tuple[int, ...]]) -> None:
    layer = {"mlp.gate.weight": (8, 16), "mlp.shared_expert.up_proj.weight": (32, 16), "norm.weight": (16,)}
    shapes = {f"model.layers.0.{name}": shape for name, shape in {**layer, **experts}.items()}
    shapes["model.embed_tokens.weight"] = (100, 16)
    assert matrix_elements(shapes, MOE) == 8 * 16 + 32 * 16 + 2 * 32 * 16 + 100 * 16
    assert matrix_elements(shapes, {}) == 0  # it is not known how many experts a token uses


def test_names_of_gpt_2_are_understood() -> None:
    layer = {"attn.c_attn.weight": (16, 48), "attn.c_proj.weight": (16, 16), "attn.bias": (1, 1, 64, 64)}
    layer |= {"mlp.c_fc.weight": (16, 64), "mlp.c_proj.weight": (64, 16), "ln_1.weight": (16,)}
    shapes = {f"transformer.h.{number}.{name}": shape for number in (0, 1) for name, shape in layer.items()}
    shapes |= {"transformer.wte.weight": (100, 16), "transformer.wpe.weight": (64, 16)}
    assert matrix_elements(shapes, {}) == 2 * (16 * 48 + 16 * 16 + 2 * 16 * 64) + 100 * 16
    assert attention_width(shapes, 16) == 2 * 16


@pytest.mark.parametrize(
    ("overrides", "peak"),
    [
        (["precision=bf16"], 989.4e12),
        (["precision=fp16"], 989.4e12),
        (["precision=tf32"], 494.7e12),
        (["precision=fp32"], 66.9e12),
        (["precision=bf16", "hardware.tflops.bf16=700"], 700e12),
        (["precision=fp32", *AUTOCAST], 989.4e12),
        (["precision=fp32", "launcher.device=cpu"], None),
    ],
)
def test_the_peak_is_that_of_the_matrices(overrides: list[str], peak: float | None) -> None:
    assert flops_of(plan_of(*overrides, hardware=gpus(H200))).peak == pytest.approx(peak)


def test_an_unknown_card_and_gpus_that_differ_have_no_peak() -> None:
    unknown = replace(H200, name="NVIDIA X1")
    assert flops_of(plan_of("precision=bf16", hardware=gpus(unknown))).peak is None
    assert flops_of(plan_of("precision=bf16", hardware=gpus(H200, unknown))).peak is None
    one_of_them = plan_of("precision=bf16", "launcher.nproc_per_node=1", hardware=gpus(H200, unknown))
    assert flops_of(one_of_them).peak == 989.4e12


def test_a_model_that_is_not_here_has_no_flops() -> None:
    assert plan_of("model=pretrained", "model.name_or_path=nobody/no-such-model").flops is None


def watch() -> Stopwatch:
    found = Stopwatch()
    found.add_step(8)
    found.started -= 2.0 - found.seconds()
    return found


def test_metrics_have_the_utilization_of_one_gpu() -> None:
    flops = TrainingFlops(weights=1_000_000, attention=100, peak=1e9)
    values = Throughput(tokens_per_sequence=500, world_size=2, flops=flops).read(watch())
    assert math.isclose(values["throughput/tokens_per_sec_per_gpu"], 1000, rel_tol=1e-6)
    assert math.isclose(values["throughput/tflops_per_gpu"], 1000 * 1_050_000 / 1e12, rel_tol=1e-6)
    assert math.isclose(values["throughput/mfu"], 1.05, rel_tol=1e-6)


def test_without_a_peak_or_an_architecture_metrics_are_left_out() -> None:
    without_peak = TrainingFlops(weights=1, attention=1, peak=None)
    assert "throughput/tflops_per_gpu" in Throughput(1, 1, without_peak).read(watch())
    assert "throughput/mfu" not in Throughput(1, 1, without_peak).read(watch())
    assert "throughput/tflops_per_gpu" not in Throughput(1, 1).read(watch())


def test_plan_and_summary_show_them() -> None:
    plan = plan_of("model=llama3_1b", "precision=bf16", "data.max_length=2048", hardware=gpus(H200))
    assert dict(facts(plan))["compute"] == "8.22 GFLOP per token, peak 989.4 TFLOP/s per GPU"
    rows = summary_rows(plan, {"tflops_per_gpu": 547.4, "mfu": 0.5533}, RunProgress(), None)
    assert (rows["TFLOP/s"], rows["MFU"]) == ("547 per device", "55.3%")
    assert "peak" not in dict(facts(plan_of(hardware=CPU)))["compute"]


def test_the_table_of_runs_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"summary/mfu": 0.412, "throughput/mfu": 0.39}
    run = RecordedRun("0" * 32, "a", "FINISHED", 0.0, 1.0, params={"stage": "2"}, metrics=metrics, tags={})
    print_runs([run])
    out = capsys.readouterr().out
    assert "MFU" in out
    assert "41.2%" in out
    print_runs([replace(run, metrics={})])
    assert "MFU" not in capsys.readouterr().out


def test_tables_of_a_sweep_show_it(tmp_path: Path) -> None:
    summary = {"tokens_per_sec": 10.0, "mfu": 0.412, "train_loss": 1.0}
    points = [
        Attempt(
            folder=f"{stage}", overrides=[f"stage={stage}"], session=0, ending="finished", summary=summary
        )
        for stage in (1, 2)
    ]
    out = io.StringIO()
    print_sweep([as_row(tmp_path, point) for point in points], out)
    assert "MFU" in out.getvalue()
    assert "41.2%" in out.getvalue()
    write_report(tmp_path, points)
    page = (tmp_path / "sweep_report.html").read_text()
    assert page.count("41.2%") == 2
