"""What people see: plain lines, the live line, the summary, the list of problems."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.support.events import event
from tests.support.plans import make_plan
from zpipe.problems import Problem
from zpipe.record.store import default_uri
from zpipe.record.ui import ui_command
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.progress import RunProgress
from zpipe.terminal.console import clean, print_problems
from zpipe.terminal.live import LiveDisplay
from zpipe.terminal.summary import print_summary
from zpipe.terminal.sweep_table import print_sweep
from zpipe.terminal.units import duration, number


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """A display, fed as a supervisor feeds it."""

    def __init__(self, folder: Path, out: TextIO, live: bool, clock: Clock | None = None) -> None:
        self.progress = RunProgress()
        self.display = LiveDisplay(make_plan(folder), self.progress, out, live, clock or Clock())

    def update(self, kind: str, **fields: Any) -> None:
        each = event(kind, **fields)
        self.progress.update(each)
        self.display.update(each)


def show(folder: Path, *events: tuple[str, dict[str, Any]], live: bool = False) -> str:
    out = io.StringIO()
    shown = Shown(folder, out, live)
    with shown.display:
        for kind, fields in events:
            shown.update(kind, **fields)
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_for_each_thing_that_matters(tmp_path: Path) -> None:
    values = {"loss": 4.0, "learning_rate": 5e-5, "throughput/tokens_per_sec": 1234.5}
    text = show(
        tmp_path / "run",
        ("phase", {"name": "model", "detail": "tiny"}),
        ("operator", {"name": "async_io", "state": "building", "seconds": 180}),
        ("operator", {"name": "async_io", "state": "built", "seconds": 170.4}),
        ("notice", {"text": "[red]not markup[/red] \x1b[31m"}),
        ("phase", {"name": "train", "detail": ""}),
        ("step", {"step": 1, "of": 4}),
        ("metrics", {"step": 1, "values": {**values, "fp16/loss_scale": 65536.0, "fp16/skipped_steps": 1.0}}),
        ("metrics", {"step": 2, "values": {"fp16/loss_scale": 32768.0}}),
        ("metrics", {"step": 2, "values": {"eval_loss": "nan"}}),
        ("overflow", {"step": 2, "scale_before": 65536.0, "scale_after": 32768.0, "skipped_total": 1}),
        ("checkpoint", {"step": 2, "path": "checkpoint-2", "bytes": 2048}),
        ("failed", {"type": "OSError", "message": "disk full"}),
    )
    assert text.splitlines() == [
        "model (tiny)",
        "building DeepSpeed operator async_io, about 3 min, once per machine",
        "built DeepSpeed operator async_io in 2 min 50 s",
        "notice: [red]not markup[/red]  [31m",
        "train",
        "step 1/4  loss 4.0000  lr 5.00e-05  1,234 tokens/s  loss scale 65536  1 skipped",
        "step 2/4  eval_loss nan",
        "step 2: gradients not finite, step skipped, loss scale 65536 -> 32768 (1 skipped so far)",
        f"checkpoint: {tmp_path}/run/checkpoint-2 (2.0 KiB)",
        "failed: OSError: disk full",
    ]


def test_the_live_line_says_what_is_waited_for_and_for_how_long(tmp_path: Path) -> None:
    clock = Clock()
    shown = Shown(tmp_path / "run", io.StringIO(), True, clock)
    shown.update("operator", name="async_io", state="building", seconds=180)
    clock.now += 42
    assert shown.display.line() == "building DeepSpeed operator async_io, about 3 min, once per machine: 42 s"


def test_the_live_line_estimates_from_the_pace_after_the_first_step(tmp_path: Path) -> None:
    clock = Clock()
    shown = Shown(tmp_path / "run", io.StringIO(), True, clock)
    shown.update("phase", name="train")
    assert shown.display.line() == "step 0/4"
    clock.now += 50
    shown.update("step", step=1, of=101)
    assert shown.display.line() == "step 1/101"
    clock.now += 20
    shown.update("step", step=11, of=101)
    clock.now += 1
    assert shown.display.line() == "step 11/101  2 min 59 s left"


def test_the_live_line_says_what_the_first_step_waits_for(tmp_path: Path) -> None:
    clock = Clock()
    shown = Shown(tmp_path / "run", io.StringIO(), True, clock)
    shown.update("phase", name="train", detail="DeepCompile compiles the model")
    clock.now += 190
    shown.update("step", step=0, of=4)
    assert shown.display.line() == "train (DeepCompile compiles the model): 3 min 10 s"
    shown.update("step", step=1, of=4)
    assert shown.display.line() == "step 1/4"


def test_a_terminal_shows_lasting_lines_without_reading_markup(tmp_path: Path) -> None:
    text = show(tmp_path / "run", ("notice", {"text": "see [/nope] :smile:"}), live=True)
    assert "notice: see [/nope] :smile:" in text


def test_the_summary_names_what_is_left_behind_and_how_to_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(tmp_path / "run")
    (Path(plan.run_dir) / "checkpoint-4").mkdir()
    gone, kept = Path(plan.run_dir) / "checkpoint-2", Path(plan.run_dir) / "checkpoint-4"
    progress = RunProgress.of(
        [
            event("step", step=4, of=4),
            event("checkpoint", step=2, path=gone.name, bytes=1),
            event("checkpoint", step=4, path=kept.name, bytes=1),
            event("model", step=4, path="model", bytes=1),
        ]
    )
    summary = {
        "train_loss": 3.0,
        "final_loss": float("nan"),
        "tokens_per_sec": 1234.4,
        "memory/host_peak_gib": 1.234,
    }
    outcome = Outcome(
        ending="finished",
        run_dir=plan.run_dir,
        summary=summary,
        mlflow_run_id="abc",
        record_error="down [/x]",
    )
    out = io.StringIO()
    print_summary(plan, progress, outcome, stream=out)
    text = out.getvalue()
    for part in ("nan last, 3.0000 mean", "1,234", "1.23 GiB", str(kept), "abc", "4 of 4", "down [/x]"):
        assert part in text
    assert str(gone) not in text
    assert f"zpipe record {plan.run_dir}" in text
    assert text.rstrip().endswith("zpipe ui")


def test_a_failure_says_why(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run")
    out = io.StringIO()
    outcome = Outcome(ending="failed", reason="OSError: disk full", run_dir=plan.run_dir)
    print_summary(plan, RunProgress(), outcome, stream=out)
    assert "failed: OSError: disk full" in out.getvalue()
    assert "MLflow" not in out.getvalue()


def test_the_command_for_another_store_has_its_uri_without_the_password(tmp_path: Path) -> None:
    assert ui_command(default_uri(tmp_path), tmp_path) == "zpipe ui"
    assert ui_command("sqlite:////a b/x.db", tmp_path) == "zpipe ui --uri 'sqlite:////a b/x.db'"
    assert "secret" not in ui_command("postgresql://me:secret@h/db", tmp_path)


def test_a_sweep_is_a_line_for_each_point() -> None:
    out = io.StringIO()
    good: dict[str, Any] = {
        "ending": "finished",
        "reason": "",
        "summary": {"eval_loss": 2.0, "tokens_per_sec": 1234.0},
    }
    good["summary"]["memory/host_peak_gib"] = 0.25
    bad = {"ending": "failed", "reason": "boom [/red]", "summary": {}}
    points = [
        {"folder": "/sweep/0", "settings": {"stage": "2"}, **good},
        {"folder": "/sweep/1", "settings": {"stage": "3"}, **bad},
    ]
    print_sweep(points, stream=out)
    _, header, first, second, _, count = out.getvalue().splitlines()
    figures = ("eval loss", "tokens/s", "GPU GiB", "host GiB")
    assert header.split() == " ".join(["point", "stage", "ended", *figures]).split()
    assert first.split() == ["0", "2", "finished", "2.0000", "(best)", "1,234", "0.25"]
    assert second.split() == ["1", "3", "failed:", "boom", "[/red]"]
    assert count == "1 of 2 points finished"


def test_problems_are_a_numbered_list_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [
        Problem("stage.stage", "[red]7", "no such stage", "0, 1, 2, 3", "stage=3"),
        Problem("x", None, "y"),
    ]
    print_problems(problems)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Refused: 2 problems in the input",
        "",
        "  1. stage.stage=[red]7: no such stage",
        "       allowed: 0, 1, 2, 3",
        "       try:     stage=3",
        "  2. x=null: y",
    ]


def test_neither_rich_nor_mlflow_nor_torch_is_imported_before_it_is_needed() -> None:
    heavy = ("rich", "mlflow", "torch")
    code = f"import sys, zpipe.terminal.live; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_and_texts() -> None:
    assert [number(value) for value in (65536.0, 0.5, 1e-5, "inf", None)] == [
        "65536",
        "0.5000",
        "1e-05",
        "inf",
        "?",
    ]
    assert clean("a\x1b[2Kb\r\nc") == "a [2Kb \nc"


def test_a_full_disk_under_the_output_or_a_reader_who_left_does_not_end_the_run(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        shown = Shown(tmp_path, full, live=False)
        for text in ("one", "two"):
            shown.update("notice", text=text)


def test_a_terminal_that_went_away_does_not_end_the_run(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        shown = Shown(tmp_path, full, live=True)
        with shown.display:
            for text in ("one", "two"):
                shown.update("notice", text=text)
