"""The arithmetic of training on one token, and the peak of a GPU that it is compared with."""

from typing import Annotated

from pydantic import Field

from zpipe.schema.base import Group


class TrainingFlops(Group):
    """Model FLOPs of forward and backward pass, without what is computed a second time."""

    weights: int
    """For each token, in the matrices of the model."""
    attention: int
    """For each token and each position of its sequence, in the attention."""
    peak: Annotated[float, Field(gt=0)] | None
    """FLOP/s of one GPU in the training dtype; null on a CPU and for an unknown card."""

    def per_token(self, sequence_length: float) -> float:
        """Of sequences with this many tokens, which may be a mean."""
        return self.weights + self.attention * sequence_length
