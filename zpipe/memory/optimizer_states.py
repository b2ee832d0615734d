"""How many values an optimizer keeps for each parameter. Measured with real checkpoints, see test_saves.py.

ZeRO flattens the parameters, so that Adafactor cannot factor its second moments.
"""

from collections.abc import Mapping

from zpipe.schema.optimizer import Optimizer

_STATES: Mapping[str, int] = {
    **dict.fromkeys(("AdamW", "Adam", "Lamb", "NAdam", "RAdam", "Adamax", "Adadelta"), 2),
    **dict.fromkeys(("Lion", "RMSprop", "Adagrad", "Adafactor"), 1),
    "SGD": 0,
}
"""Of DeepSpeed and of torch.optim."""
_TRANSFORMERS_STATES: Mapping[str, int] = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused"), 2),
    **dict.fromkeys(("adafactor", "adagrad", "rmsprop", "lion_32bit"), 1),
    "sgd": 0,
}


def states_per_parameter(optimizer: Optimizer) -> int | None:
    """Values of 4 bytes for each element; None for an optimizer whose states are of another kind."""
    if optimizer.type is None:
        known = _TRANSFORMERS_STATES.get(optimizer.optim or "adamw_torch")
        return None if known is None or optimizer.optim_args is not None else known
    known = _STATES.get(optimizer.type)
    params = optimizer.params
    return (
        None
        if known is None
        else known + bool(params.momentum) + bool(params.centered) + bool(params.amsgrad)
    )
