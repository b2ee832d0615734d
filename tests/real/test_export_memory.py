"""Exports need the host memory that they predict, and far less than two copies of the weights.

One real training of a model whose largest tensors are read in several pieces.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.exports import LARGE, deepspeeds_masters, differing, predicted_peak, weights_in
from tests.support.peaks import Peak, peak_of
from tests.support.process import finish

pytestmark = pytest.mark.real

_ROUNDING = 1.05
"""The prediction is printed with one decimal."""


@dataclass(frozen=True)
class Exported:
    run: Path
    output: Path
    peak: Peak


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Exported:
    """The fp32 masters of a run in bf16."""
    cwd = tmp_path_factory.mktemp("memory")
    fixed = (preloaded.INPROCESS, f"data.path={text_file}", f"hydra.run.dir={cwd / 'run'}")
    done = finish(preloaded.start(cwd, *LARGE, "train.max_steps=1", *fixed), cwd / "run")
    assert done.exit_code == 0, done.explain()
    peak = peak_of("export", str(cwd / "run"), "--dtype", "fp32", "--output", str(cwd / "out"))
    return Exported(cwd / "run", cwd / "out", peak)


def test_predicted_peak_comes_true(exported: Exported) -> None:
    predicted = predicted_peak(exported.peak.printed)
    assert 0.8 * predicted < exported.peak.total < _ROUNDING * predicted, exported.peak.printed


def test_peak_is_far_below_two_copies_of_the_weights(exported: Exported) -> None:
    (file,) = exported.output.glob("*.safetensors")
    assert exported.peak.total - exported.peak.libraries < 1.3 * file.stat().st_size, exported.peak.printed


def test_weights_that_are_read_in_pieces_are_those_that_deepspeed_merges(exported: Exported) -> None:
    (checkpoint,) = exported.run.glob("checkpoint-*")
    expected = deepspeeds_masters(checkpoint)
    del expected["lm_head.weight"]  # tied
    assert differing(weights_in(exported.output), expected) == []
    assert "equal logits" in exported.peak.printed
