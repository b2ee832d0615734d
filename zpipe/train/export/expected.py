"""The tensors that the model of a config.json has, found without allocating any of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.facts.weights import listed, shape_text
from zpipe.problems import Problem, Refusal
from zpipe.train.refusals import one_line

Shapes = Mapping[str, tuple[int, ...]]

LOADING: Mapping[str, Any] = {
    # A configuration of a stranger may name an attention kernel of the hub, or code of its own.
    "attn_implementation": "eager",
    "trust_remote_code": False,
}


@dataclass(frozen=True)
class Expected:
    """Names and shapes without tied copies, which transformers restores when it loads the model."""

    in_model: Shapes
    in_files: Shapes
    """As save_pretrained names them: some architectures have other names, and other cuts, in files."""
    tied: Mapping[str, str]
    """Names whose weights are those of another name."""
    parameters: int
    """Elements, tied weights counted once."""

    def problem_with(self, found: Shapes) -> str | None:
        """What these tensors lack, have too much or have in another shape; None if they are the model's."""
        if dict(found) in (dict(self.in_model), dict(self.in_files)):
            return None
        wanted = self.in_files if len(set(found) & set(self.in_files)) else self.in_model
        missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        if missing:
            return f"of {len(wanted)} tensors it lacks {listed(missing)}"
        if extra:
            return f"the model has no {listed(extra)}"
        name = next(name for name in wanted if tuple(found[name]) != tuple(wanted[name]))
        return f"{name} is {shape_text(found[name])}, by config.json it is {shape_text(wanted[name])}"


def expected_tensors(folder: Path) -> Expected:
    """Those of the model of the folder's config.json. Raises Refusal if transformers has no such model."""
    model = on_meta(folder)
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    state = {
        name: each for name, each in model.state_dict().items() if name not in ignored and name not in tied
    }
    elements = sum(each.numel() for name, each in model.named_parameters() if name not in tied)
    return Expected(_shapes(state), _shapes(_as_in_files(model, state)), tied, elements)


def on_meta(folder: Path) -> Any:
    """The model of a folder's config.json without values. Raises Refusal."""
    with torch.device("meta"):
        return _built(folder, torch.float32)


def skeleton(folder: Path, dtype: torch.dtype) -> Any:
    """The model of a folder's config.json with buffers, and parameters without values. Raises Refusal."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return _built(folder, dtype)


def _built(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **LOADING)
    except Exception as error:  # Each architecture checks its settings in its own way, or not at all.
        reraise_machine_error(error)
        reason = f"transformers cannot build a model from its config.json: {one_line(error)}"
        raise Refusal([Problem("RUN", str(folder), reason, "an architecture of transformers")]) from error
    model.tie_weights()
    return model


def _as_in_files(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    from transformers.core_model_loading import revert_weight_conversion

    converted: dict[str, Any] = revert_weight_conversion(model, dict(state))
    return converted


def _shapes(state: Mapping[str, Any]) -> Shapes:
    return {name: tuple(each.shape) for name, each in state.items()}
