"""Forward and backward pass of a decoder on the GPU, as allocations."""

from dataclasses import dataclass

from zpipe.memory.gathered import Gathered
from zpipe.memory.gradients import Gradients
from zpipe.memory.loss import backward_loss, forward_loss
from zpipe.memory.model import Model
from zpipe.memory.tape import Tape

ACTIVATIONS, CHECKPOINTS, TRANSIENT = "activations", "checkpointed inputs", "work of one layer"
WORKSPACES = "cuBLAS workspaces"


@dataclass
class ModelPasses:
    model: Model
    gathered: Gathered
    workspace: int
    """Bytes that cuBLAS allocates for each thread that multiplies matrices: forward and backward."""

    def forward(self, tape: Tape) -> None:
        model, tokens = self.model, self.model.tokens
        output = model.element * model.hidden
        tape.begin("forward")
        self.gathered.forward(0)
        self._take_workspace(tape, "forward")
        tape.take("hidden", model.element * model.hidden * tokens, ACTIVATIONS)
        for index in range(len(model.layers)):
            self.gathered.forward(index + 1)
            work = model.activations(index).forward_transient + output
            if model.is_checkpointed:
                self._take_layer(tape, "recomputed", index, TRANSIENT)
                tape.pulse(work * tokens, TRANSIENT)
                self._drop_layer(tape, "recomputed", index)
                tape.take(f"input {index}", 0 if model.keeps_on_host else model.checkpoint, CHECKPOINTS)
            else:
                tape.pulse(work * tokens, TRANSIENT)
                self._take_layer(tape, f"layer {index}", index, ACTIVATIONS)
        self.gathered.forward(len(model.layers) + 1)
        tape.take("final norm", model.final_norm * tokens, ACTIVATIONS)
        forward_loss(tape, model)

    def backward(self, tape: Tape, gradients: Gradients) -> None:
        model = self.model
        tape.begin("backward")
        gradients.begin_pass()
        backward_loss(tape, model)
        self._take_workspace(tape, "backward")
        gradients.of("behind the layers", model.behind)
        if not model.is_tied:
            tape.drop("head gradient")
        tape.drop("final norm")
        for index in reversed(range(len(model.layers))):
            self.gathered.backward(index + 1)
            self._backward_layer(tape, index, gradients)
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

    def _backward_layer(self, tape: Tape, index: int, gradients: Gradients) -> None:
        """The gradient of a parameter is there before what it is computed from is freed."""
        model, saved = self.model, self.model.activations(index).saved
        name = "recomputed" if model.is_checkpointed else f"layer {index}"
        if model.is_checkpointed:
            self._take_layer(tape, name, index, TRANSIENT)
        work = model.activations(index).backward_transient + 2 * model.element * model.hidden
        tape.take("work", work * model.tokens, TRANSIENT)
        parameters = list(enumerate(reversed(model.layers[index])))
        for number, position in enumerate(reversed(range(len(saved))), start=1):
            done = len(parameters) * number // len(saved)
            for place, elements in parameters[len(parameters) * (number - 1) // len(saved) : done]:
                gradients.of(f"{index}.{place}", elements)
            tape.drop(f"{name}.{position}")
            if number == 1:
                tape.drop("work")

    def _take_layer(self, tape: Tape, name: str, index: int, term: str) -> None:
        for position, (_, bytes_) in enumerate(self.model.activations(index).saved):
            tape.take(f"{name}.{position}", bytes_ * self.model.tokens, term)

    def _drop_layer(self, tape: Tape, name: str, index: int) -> None:
        for position in reversed(range(len(self.model.activations(index).saved))):
            tape.drop(f"{name}.{position}")
