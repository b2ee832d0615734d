"""Fused kernels in place of transformers' own, and PyTorch's choice of an attention kernel."""

from typing import Literal

from zpipe.schema.base import Auto, Group

SdpaBackend = Literal["auto", "cudnn", "flash", "efficient", "math"]


class Kernels(Group):
    """Kernels of the layers. They compute the same in another order: results differ by rounding."""

    liger: bool | Auto | Literal["loss"] | None = None
    """Liger's kernels; loss means the fused loss alone; null leaves the choice to train.use_liger_kernel."""
    sdpa_backend: SdpaBackend = "auto"
    """The only kernel that PyTorch's attention (sdpa) may run; auto lets PyTorch choose for each call."""
