"""A post-mortem compares the predicted with the measured memory, and names what is most likely off."""

from pathlib import Path

import pytest

from tests.support.events import event
from tests.support.planning import CPU, GIB
from tests.support.plans import begin_attempt, make_plan
from tests.support.predictions import prediction
from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.diagnose.postmortem import write_postmortem
from zpipe.machine.samples import Sample
from zpipe.plans.memory import Fit, MemoryPrediction
from zpipe.runfolder.events import Event
from zpipe.runfolder.outcome import Ending, Outcome
from zpipe.runfolder.progress import RunProgress

FITS = [
    Fit(resource="GPU", used=round(30.9 * GIB), limit=round(40 * GIB), verdict="fits"),
    Fit(resource="host", used=round(12.3 * GIB), limit=16 * GIB, verdict="fits"),
]
LOADING = (event("phase", name="model"),)
READY = (*LOADING, event("phase", name="train"), event("step", step=0, of=8))
LATER = (
    *READY,
    event("metrics", step=3, values={"memory/peak_allocated_gib": 29.0, "memory/peak_reserved_gib": 31.5}),
    event("step", step=3, of=8),
)
RESUMED = (*LATER, event("attempt", number=2, step=3), *LOADING, event("phase", name="train"))


def out_of_memory(allocated: float, unused: float, asked: float = 2.0) -> RankError:
    """As PyTorch 2.11 says it."""
    message = (
        f"CUDA out of memory. Tried to allocate {asked:.2f} GiB. GPU 0 has a total capacity of 39.49 GiB of "
        f"which 1.18 GiB is free. Including non-PyTorch memory, this process has 38.30 GiB memory in use. Of "
        f"the allocated memory {allocated:.2f} GiB is allocated by PyTorch, and {unused * 1024:.2f} MiB is "
        "reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting ..."
    )
    return RankError(0, "OutOfMemoryError", message)


def samples(workers_gib: float, gpu_gib: float) -> tuple[Sample, ...]:
    used = round(workers_gib * GIB)
    return (Sample(1.0, used, 16 * GIB, used, 0, GIB, (round(gpu_gib * GIB), GIB), (40 * GIB, 40 * GIB)),)


def written(
    tmp_path: Path,
    ending: Ending,
    events: tuple[Event, ...],
    *errors: RankError,
    seen: tuple[Sample, ...] = (),
    known: MemoryPrediction | None = None,
) -> str:
    plan = make_plan(tmp_path / "run", memory=known or prediction(), memory_fits=FITS)
    begin_attempt(tmp_path / "run")
    evidence = Evidence(progress=RunProgress.of(events), errors=errors, samples=seen)
    outcome = Outcome(ending=ending, run_dir=plan.run_dir)
    postmortem = write_postmortem(plan, outcome, evidence, CPU)
    assert postmortem is not None
    return postmortem.text.partition("## Predicted and measured")[2].partition("## What to try")[0]


def test_predicted_and_measured_peaks_stand_side_by_side(tmp_path: Path) -> None:
    seen = samples(13.0, 38.0)
    text = written(tmp_path, "gpu_out_of_memory", LATER, out_of_memory(36.0, 0.5), seen=seen)
    assert "| allocated on the GPU | 28.50 GiB | 29.00 GiB at the last logged step |" in text
    assert "| reserved on the GPU | 30.10 GiB | 31.50 GiB at the last logged step |" in text
    assert "| used on the fullest GPU | 30.90 GiB | 38.00 GiB with other processes |" in text
    assert (
        "| host memory of all workers | 12.30 GiB | 13.00 GiB resident in total, with the launcher |" in text
    )


@pytest.mark.parametrize(
    ("events", "error", "expected"),
    [
        (
            LOADING,
            out_of_memory(36.0, 0.5),
            "It ran out before the first step: most likely off is the figure for model states; predicted "
            "were optimizer states 9.5 GiB.",
        ),
        (
            RESUMED,
            out_of_memory(36.0, 0.5),
            "It ran out before the first step: most likely off is the figure for model states; predicted "
            "were optimizer states 9.5 GiB.",
        ),
        (
            READY,
            out_of_memory(36.0, 0.5),
            "It ran out in the first step of the attempt (step 1): most likely off is the figure for "
            "activations and logits; predicted were activations 19.0 GiB.",
        ),
        (
            (*RESUMED, event("step", step=3, of=8)),
            out_of_memory(36.0, 0.5),
            "It ran out in the first step of the attempt (step 4): most likely off is the figure for "
            "activations and logits; predicted were activations 19.0 GiB.",
        ),
        (
            LATER,
            out_of_memory(36.0, 0.5),
            "It ran out after steps that had fit (step 4): most likely off is the figure for fragmentation "
            "of the allocator's memory; predicted were fragments 1.6 GiB.",
        ),
        (
            READY,
            out_of_memory(28.0, 9.0),
            "It ran out beside more unused memory than was asked for (step 1): most likely off is the figure "
            "for fragmentation of the allocator's memory; predicted were fragments 1.6 GiB.",
        ),
        (
            LATER,
            out_of_memory(20.0, 0.5),
            "That is less than was predicted: the GPU had less free memory than the plan knew, such as "
            "because of another process.",
        ),
        (
            (*LATER, event("phase", name="evaluate")),
            out_of_memory(36.0, 0.5),
            "It ran out in an evaluation (step 4): most likely off is the figure for the batch of the "
            "evaluation and its logits; predicted were activations 19.0 GiB.",
        ),
    ],
)
def test_moment_of_the_end_tells_what_is_most_likely_off_on_the_gpu(
    tmp_path: Path, events: tuple[Event, ...], error: RankError, expected: str
) -> None:
    lines = written(tmp_path, "gpu_out_of_memory", events, error).splitlines()
    assert "The GPU was predicted to need 30.9 GiB (±5%) of 40.0 GiB that were there: fits." in lines
    assert expected in lines


def test_what_pytorch_had_at_the_end_is_told(tmp_path: Path) -> None:
    text = written(tmp_path, "gpu_out_of_memory", READY, out_of_memory(36.0, 0.5))
    assert (
        "PyTorch had allocated 36.0 GiB and held 512.0 MiB that it did not use, and asked for 2.0 GiB" in text
    )


@pytest.mark.parametrize(
    ("events", "workers", "expected"),
    [
        (
            LOADING,
            15.0,
            "It ran out before the first step: most likely off is the figure for model states.",
        ),
        (LATER, 15.0, "It ran out after steps that had fit: memory that grows is not predicted"),
        (LATER, 5.0, "That is less than was predicted: other processes of the machine used the rest"),
    ],
)
def test_moment_of_the_end_tells_what_is_most_likely_off_on_the_host(
    tmp_path: Path, events: tuple[Event, ...], workers: float, expected: str
) -> None:
    text = written(tmp_path, "host_out_of_memory", events, seen=samples(workers, 1.0))
    assert "The host was predicted to need 12.3 GiB (±5%) of 16.0 GiB that were there: fits." in text
    assert f"All workers together had at most {workers} GiB resident." in text
    assert expected in text


def test_other_endings_have_the_figures_alone(tmp_path: Path) -> None:
    text = written(tmp_path, "failed", LATER, RankError(0, "ValueError", "no"), seen=samples(5.0, 1.0))
    assert "| allocated on the GPU |" in text
    assert "predicted to need" not in text
