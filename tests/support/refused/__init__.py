"""At least one refused command line for every rule, grouped by subject."""

from tests.support.refused import basics, engine, kernels, optimizing, zero
from tests.support.refused.rows import FOUR_GPUS, OLD_GPU, ONE_GPU, SMALL_DISK, Row, command

__all__ = ["FOUR_GPUS", "OLD_GPU", "ONE_GPU", "REFUSED", "SMALL_DISK", "Row", "command"]

REFUSED: list[Row] = [*basics.ROWS, *optimizing.ROWS, *engine.ROWS, *kernels.ROWS, *zero.ROWS]
