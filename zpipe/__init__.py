"""zpipe: declarative DeepSpeed fine-tuning, from YAML to MLflow.

import zpipe
plan = zpipe.plan("offload=nvme", stage=3)      # nothing is written
outcome = zpipe.run("stage=2", train={"max_steps": 10})
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zpipe.api import plan as plan
    from zpipe.api import run as run
    from zpipe.problems import Refusal as Refusal

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports the interface on first use, which keeps `zpipe --help` fast."""
    if name in ("plan", "run"):
        from zpipe import api

        return getattr(api, name)
    if name == "Refusal":
        from zpipe.problems import Refusal

        return Refusal
    raise AttributeError(f"module 'zpipe' has no attribute {name!r}")
