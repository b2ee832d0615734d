"""The loss on the GPU: logits of all tokens, or a fused loss that has those of a chunk at a time.

Sources: transformers/loss/loss_utils.py: ForCausalLMLoss; liger_kernel/ops/fused_linear_cross_entropy.py.
"""

from zpipe.memory.model import Model
from zpipe.memory.tape import Tape

LOGITS, HEAD_GRADIENT = "logits and loss", "gradient of the output head"


def forward_loss(tape: Tape, model: Model) -> None:
    if model.has_fused_loss:
        tape.take("input gradient", model.element * model.hidden * model.tokens, LOGITS)
        _take_head_gradient(tape, model)
        tape.pulse(model.element * model.vocabulary * _chunk(model), LOGITS)
        return
    logits = model.vocabulary * model.tokens
    tape.take("logits", model.element * logits, LOGITS)
    if model.element < 4:
        tape.take("logits in fp32", 4 * logits, LOGITS)
    tape.take("capped logits", model.kept_logits * model.element * logits, LOGITS)
    tape.take("log-probabilities", 4 * logits, LOGITS)
    tape.drop("logits in fp32")


def backward_loss(tape: Tape, model: Model) -> None:
    if model.has_fused_loss:
        tape.drop("input gradient")
        return
    logits = model.vocabulary * model.tokens
    tape.drop("logits")
    tape.take("loss gradient", 4 * logits, LOGITS)
    tape.take("logits gradient in fp32", 4 * logits, LOGITS)
    tape.drop("loss gradient", "log-probabilities")
    if model.element < 4:
        tape.take("logits gradient", model.element * logits, LOGITS)
        tape.drop("logits gradient in fp32")
    tape.drop("capped logits")
    _take_head_gradient(tape, model)
    tape.pulse(model.element * model.hidden * model.tokens, LOGITS)
    tape.drop("logits gradient", "logits gradient in fp32")


def _take_head_gradient(tape: Tape, model: Model) -> None:
    if not tape.is_alive("head gradient"):
        tape.take("head gradient", model.element * model.vocabulary * model.hidden, HEAD_GRADIENT)


def _chunk(model: Model) -> int:
    """Tokens whose logits a fused loss has at a time (liger_kernel/ops/fused_linear_cross_entropy.py)."""
    factor = -(-model.vocabulary // model.hidden)
    return min(model.tokens, 1 << (-(-model.tokens // factor) - 1).bit_length())
