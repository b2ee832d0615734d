"""Nonfinite losses and skipped steps: when they end a run, and how they are recorded."""

import json
import math
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import EventWriter, event
from zpipe.record.metrics import PRECISION_COLUMNS, precision_rows
from zpipe.runfolder.event_file import EventReader
from zpipe.runfolder.events import Notice
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.json_lines import with_named_numbers
from zpipe.runfolder.progress import RunProgress
from zpipe.schema.precision import Precision
from zpipe.train.health import LossScaleStuckError, NonFiniteLossError, PrecisionHealth
from zpipe.train.metrics import SkippedStep


def health(is_fp16: bool, **keys: Any) -> PrecisionHealth:
    limits = {"max_skipped_steps_at_min_scale": 3, "max_nonfinite_steps": 4}
    return PrecisionHealth(Precision(**{**limits, **keys}), is_fp16)


def skip(at_min_scale: bool = True) -> SkippedStep:
    return SkippedStep(2.0, 1.0, 1, at_min_scale)


def test_consecutive_skips_at_the_lowest_scale_end_an_fp16_run() -> None:
    check = health(is_fp16=True)
    for step in (skip(), skip(), None, skip(), skip()):
        check.after_step(step)
    with pytest.raises(LossScaleStuckError, match="3 steps in a row overflowed at the lowest loss scale, 1"):
        check.after_step(skip())


def test_skips_above_the_lowest_scale_never_end_a_run() -> None:
    check = health(is_fp16=True)
    for _ in range(100):
        check.after_step(skip(at_min_scale=False))


def test_consecutive_skips_end_a_run_without_loss_scaling() -> None:
    check = health(is_fp16=False)
    for step in (skip(), skip(), skip(), None, skip(), skip(), skip()):
        check.after_step(step)
    with pytest.raises(NonFiniteLossError, match="4 steps in a row were skipped"):
        check.after_step(skip())


@pytest.mark.parametrize("every", [1, 10, 500])
def test_nonfinite_losses_end_a_run_from_the_second_log(every: int) -> None:
    check = health(is_fp16=False)
    check.after_log(every, 2.0)
    logs = 0
    with pytest.raises(NonFiniteLossError, match="the loss has been nan for"):
        for log in range(2, 20):
            logs += 1
            check.after_log(log * every, math.nan)
    assert logs == max(2, math.ceil(4 / every))


def test_a_single_nonfinite_loss_does_not_end_a_run() -> None:
    check = health(is_fp16=False)
    for log in range(1, 50):
        check.after_log(log * 100, math.inf if log % 2 else 3.0)


def test_null_disables_both_limits() -> None:
    off = {"max_skipped_steps_at_min_scale": None, "max_nonfinite_steps": None}
    for is_fp16 in (True, False):
        check = health(is_fp16, **off)
        for step in range(1, 200):
            check.after_step(skip())
            check.after_log(step, math.nan)


def test_the_table_has_both_kinds_of_events() -> None:
    progress = RunProgress.of(
        [
            event("metrics", step=1, values={}),
            event("overflow", step=2, scale_before=4.0, scale_after=2.0, skipped_total=1),
            event("nonfinite", step=3, loss="nan", grad_norm="inf"),
        ]
    )
    listed = with_named_numbers(precision_rows(progress.precision_events))
    rows = [dict(zip(PRECISION_COLUMNS, row, strict=True)) for row in listed]
    assert [(row["step"], row["event"]) for row in rows] == [(2, "step skipped"), (3, "loss not finite")]
    assert (rows[0]["scale_after"], rows[0]["loss"]) == (2.0, None)
    assert (rows[1]["loss"], rows[1]["grad_norm"]) == ("nan", "inf")
    json.dumps(rows)


def test_an_event_that_does_not_fit_is_the_only_one_lost(tmp_path: Path) -> None:
    writer, file = EventWriter(tmp_path), RunFolder(tmp_path).attempt.events
    writer.write("notice", text="before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError, match="No space left"):
            writer.write("notice", text="there is room for its first bytes")
        with pytest.raises(OSError, match="File too large"):
            writer.write("notice", text="there is no room at all")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write("notice", text="after")
    events = list(EventReader(file).read_new())
    assert [each.text for each in events if isinstance(each, Notice)] == ["before", "after"]
