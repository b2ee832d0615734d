"""What the installed liger-kernel can do for a model, read from its source files without importing it.

Importing liger_kernel imports torch, which planning never does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zpipe.schema.experiment import Experiment

_TABLE = re.compile(r"^MODEL_TYPE_TO_APPLY_LIGER_FN = \{(.*?)^\}", re.MULTILINE | re.DOTALL)
LAYER_KERNELS = frozenset({"rope", "rms_norm", "layer_norm", "swiglu", "geglu", "relu_squared"})
"""Names of `train.liger_kernel_config` that stand for kernels of a layer, not of the loss."""
_ENTRY = re.compile(r'"([\w.-]+)":\s*(\w+)')


@dataclass(frozen=True)
class Liger:
    """Whether Liger's kernels replace transformers' own."""

    is_used: bool
    obstacle: str = ""
    """Why they cannot be used, or why `auto` does not use them; empty if there is no reason."""
    switches: tuple[tuple[str, bool], ...] = ()
    """Names and values of transformers' `liger_kernel_config`."""
    known: frozenset[str] = LAYER_KERNELS
    """Names that it reads for this architecture."""

    @property
    def fuses_loss(self) -> bool:
        """Whether the logits of a whole micro-batch are never held."""
        return self.is_used and dict(self.switches).get("fused_linear_cross_entropy", True)

    @property
    def replaces_layers(self) -> bool:
        """Whether each kernel of a layer that it has is its own."""
        return self.is_used and self._layers == self.known & LAYER_KERNELS

    @property
    def leaves_layers(self) -> bool:
        """Whether none of them is."""
        return not (self.is_used and self._layers)

    @property
    def _layers(self) -> frozenset[str]:
        off = {name for name, on in self.switches if not on}
        return (self.known & LAYER_KERNELS) - off


def liger_of(experiment: Experiment, device: str, config: Mapping[str, Any]) -> Liger:
    """`config` is the model's configuration, {} if it is not known yet."""
    asked = experiment.kernels.liger
    if asked is None:
        asked = bool(experiment.train.use_liger_kernel)
    obstacle = _obstacle(device, config)
    known = liger_settings().get(str(config.get("model_type")), LAYER_KERNELS)
    is_loss = asked == "loss" or (asked == "auto" and _is_compiled_by_layer(experiment))
    off = dict.fromkeys(sorted(LAYER_KERNELS & known), False) if is_loss else {}
    switches = tuple({**off, **experiment.train.liger_kernel_config}.items())
    if asked == "auto":
        obstacle = obstacle or _reason_against(experiment, config)
        asked = not obstacle
    return Liger(bool(asked), obstacle, switches, known)


def _is_compiled_by_layer(experiment: Experiment) -> bool:
    return experiment.train.is_compiled and experiment.compile.regional is True


def _obstacle(device: str, config: Mapping[str, Any]) -> str:
    kind, known = config.get("model_type"), liger_settings()
    if device != "cuda":
        return "a CUDA GPU is needed"
    if known and isinstance(kind, str) and kind not in known:
        return f"liger-kernel has no kernels for {kind}"
    return ""


def _reason_against(experiment: Experiment, config: Mapping[str, Any]) -> str:
    """What `auto` avoids beyond that: an explicit request is refused for it, or left to the worker."""
    if experiment.train.is_compiled and not _is_compiled_by_layer(experiment):
        return "the whole model is compiled, with which they do not work"
    if find_spec("liger_kernel") is None:
        return "liger-kernel is not installed here"
    if not liger_settings():
        return "this release of liger-kernel does not list its architectures as zpipe reads them"
    return "" if "model_type" in config else "the architecture is not known before the model is downloaded"


@cache
def liger_settings() -> Mapping[str, frozenset[str]]:
    """By model type, the names of `train.liger_kernel_config` that Liger reads; empty without the package."""
    spec = find_spec("liger_kernel")
    if spec is None or spec.origin is None:
        return {}
    source = Path(spec.origin).parent / "transformers" / "monkey_patch.py"
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    table = _TABLE.search(text)
    return {kind: _arguments(text, name) for kind, name in _ENTRY.findall(table[1])} if table else {}


def _arguments(text: str, function: str) -> frozenset[str]:
    start = text.partition(f"\ndef {function}(")[2].partition("\n)")[0]
    return frozenset(re.findall(r"^    (\w+):", start, re.MULTILINE)) - {"model"}
