"""Forward and backward pass of a decoder on the GPU, as allocations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zpipe.memory.activations import LayerActivations
from zpipe.memory.gathered import Gathered
from zpipe.memory.gradients import Gradients
from zpipe.memory.tape import Tape

ACTIVATIONS, CHECKPOINTS, TRANSIENT = "activations", "checkpointed inputs", "work of one layer"
LOGITS, HEAD_GRADIENT = "logits and loss", "gradient of the output head"
WORKSPACES = "cuBLAS workspaces"
_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Decoder:
    """What the passes need to know of a model and a micro-batch."""

    tokens: int
    """Of one micro-batch."""
    hidden: int
    vocabulary: int
    element: int
    """Bytes of an activation."""
    layer: LayerActivations
    layers: tuple[tuple[int, ...], ...]
    """Elements of the parameters of each layer."""
    embedding: int
    """Elements of parameters before the layers."""
    behind: int
    """Elements of parameters behind the layers."""
    is_tied: bool
    """Whether the output head is the embedding."""
    final_norm: int
    """Bytes per token that the last norm keeps."""
    is_checkpointed: bool
    has_fused_loss: bool


@dataclass
class ModelPasses:
    decoder: Decoder
    gathered: Gathered
    workspace: int
    """Bytes that cuBLAS allocates for each thread that multiplies matrices: forward and backward."""

    def forward(self, tape: Tape) -> None:
        model, tokens = self.decoder, self.decoder.tokens
        work = model.layer.forward_transient + model.element * model.hidden
        tape.begin("forward")
        self.gathered.forward(0)
        self._take_workspace(tape, "forward")
        tape.take("hidden", model.element * model.hidden * tokens, ACTIVATIONS)
        for index in range(len(model.layers)):
            self.gathered.forward(index + 1)
            if model.is_checkpointed:
                self._take_layer(tape, "recomputed", TRANSIENT)
                tape.pulse(work * tokens, TRANSIENT)
                self._drop_layer(tape, "recomputed")
                tape.take(f"input {index}", model.element * model.hidden * tokens, CHECKPOINTS)
            else:
                tape.pulse(work * tokens, TRANSIENT)
                self._take_layer(tape, f"layer {index}", ACTIVATIONS)
        self.gathered.forward(len(model.layers) + 1)
        tape.take("final norm", model.final_norm * tokens, ACTIVATIONS)
        self._forward_loss(tape)

    def backward(self, tape: Tape, gradients: Gradients) -> None:
        model = self.decoder
        tape.begin("backward")
        gradients.begin_pass()
        self._backward_loss(tape)
        self._take_workspace(tape, "backward")
        gradients.of("behind the layers", model.behind)
        if not model.is_tied:
            tape.drop("head gradient")
        tape.drop("final norm")
        for index in reversed(range(len(model.layers))):
            self.gathered.backward(index + 1)
            self._backward_layer(tape, index)
            for position, elements in enumerate(reversed(model.layers[index])):
                gradients.of(f"{index}.{position}", elements)
            tape.drop(f"input {index}")
        self.gathered.backward(0)
        gradients.of("embedding", model.embedding)
        tape.drop("hidden")
        self.gathered.end()
        gradients.end_pass()

    def _take_workspace(self, tape: Tape, thread: str) -> None:
        if not tape.is_alive(f"workspace of {thread}"):
            tape.take(f"workspace of {thread}", self.workspace, WORKSPACES)

    def before_update(self, tape: Tape) -> None:
        tape.drop("head gradient")

    def _backward_layer(self, tape: Tape, index: int) -> None:
        model = self.decoder
        name = "recomputed" if model.is_checkpointed else f"layer {index}"
        if model.is_checkpointed:
            self._take_layer(tape, name, TRANSIENT)
        gradients = 2 * model.element * model.hidden
        tape.take("work", (model.layer.backward_transient + gradients) * model.tokens, TRANSIENT)
        self._drop_layer(tape, name)
        tape.drop("work")

    def _take_layer(self, tape: Tape, name: str, term: str) -> None:
        for position, (_, bytes_) in enumerate(self.decoder.layer.saved):
            tape.take(f"{name}.{position}", bytes_ * self.decoder.tokens, term)

    def _drop_layer(self, tape: Tape, name: str) -> None:
        for position in reversed(range(len(self.decoder.layer.saved))):
            tape.drop(f"{name}.{position}")

    def _forward_loss(self, tape: Tape) -> None:
        model = self.decoder
        if model.has_fused_loss:
            tape.take("input gradient", model.element * model.hidden * model.tokens, LOGITS)
            self._take_head_gradient(tape)
            tape.pulse(model.element * model.vocabulary * self._chunk(), LOGITS)
            return
        logits = model.vocabulary * model.tokens
        tape.take("logits", model.element * logits, LOGITS)
        if model.element < 4:
            tape.take("logits in fp32", 4 * logits, LOGITS)
        tape.take("log-probabilities", 4 * logits, LOGITS)
        tape.drop("logits in fp32")

    def _backward_loss(self, tape: Tape) -> None:
        model = self.decoder
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
        self._take_head_gradient(tape)
        tape.pulse(model.element * model.hidden * model.tokens, LOGITS)
        tape.drop("logits gradient", "logits gradient in fp32")

    def _take_head_gradient(self, tape: Tape) -> None:
        model = self.decoder
        if not tape.is_alive("head gradient"):
            tape.take("head gradient", model.element * model.vocabulary * model.hidden, HEAD_GRADIENT)

    def _chunk(self) -> int:
        """Tokens whose logits a fused loss has at a time (liger_kernel/ops/fused_linear_cross_entropy.py)."""
        factor = -(-self.decoder.vocabulary // self.decoder.hidden)
        return min(self.decoder.tokens, 1 << (-(-self.decoder.tokens // factor) - 1).bit_length())


def split_by_layer(shapes: Mapping[str, int]) -> tuple[int, tuple[tuple[int, ...], ...], int]:
    """Elements before the layers, of each parameter of each layer, and behind them."""
    layers: dict[int, list[int]] = {}
    before = behind = 0
    for name, elements in shapes.items():
        match = _LAYER.search(name)
        if match is not None:
            layers.setdefault(int(match[1]), []).append(elements)
        elif layers:
            behind += elements
        else:
            before += elements
    return before, tuple(tuple(each) for _, each in sorted(layers.items())), behind
