"""Gradients on the GPU, from the backward pass of a parameter to the update of its partition."""

from zpipe.memory.sizes import Sizes
from zpipe.memory.tape import MODEL, REDUCTIONS, Tape

GRADIENTS, UPDATE, STATES, BUCKETS = (
    "gradients",
    "gradients of the update",
    "optimizer states",
    "reduce buckets",
)
NORM_BYTES = 8
"""DeepSpeed computes norms in fp64 (deepspeed/runtime/zero/utils.py: get_norm_dtype)."""
_NORM_ELEMENTS = 250_000_000
"""Elements that stage 3 converts at a time for a norm (stage3.py: _constant_buffered_norm2)."""


class Gradients:
    """Those of one step. Call `begin_pass`, `of` for each parameter and `end_pass`, and finally `update`."""

    def __init__(self, tape: Tape, sizes: Sizes) -> None:
        self._tape, self._sizes = tape, sizes
        self._stream = REDUCTIONS if sizes.zero.overlaps else MODEL
        self._is_hooked = sizes.stage == 2 or (sizes.stage == 1 and sizes.zero.overlaps)
        self._kept: list[str] = []
        """Names of gradients that stay until the update."""
        self._passes = 0
        self._bucket = 0
        """Elements in it."""

    def begin_pass(self) -> None:
        self._passes += 1
        self._bucket = 0

    def of(self, name: str, elements: int) -> None:
        """The backward pass has computed the gradient of a parameter."""
        sizes = self._sizes
        if sizes.stage == 3:
            self._partition(elements)
        elif self._is_hooked:
            self._into_bucket(name, elements)
        else:
            if sizes.stage == 1:
                self._take_buckets()
            self._keep(name, elements)

    def _keep(self, name: str, elements: int) -> None:
        sizes, tape = self._sizes, self._tape
        if tape.is_alive(f"gradient {name}"):
            tape.pulse(sizes.element * elements, GRADIENTS)
        else:
            tape.take(f"gradient {name}", sizes.element * elements, GRADIENTS)
            self._kept.append(f"gradient {name}")

    def end_pass(self) -> None:
        """The epilogue of a backward pass: what is left in the buckets is reduced."""
        sizes, tape = self._sizes, self._tape
        if sizes.stage == 0 and self._passes == sizes.accumulation:
            tape.pulse(sizes.element * min(sizes.total, 500_000_000), BUCKETS)
        if sizes.stage == 1 and not self._is_hooked and self._passes == sizes.accumulation:
            self._take_partition()
            self._drop_own_gradients()
        if self._is_hooked and not sizes.is_offloaded:
            self._take_partition()
        if self._passes > 1:
            tape.drop(f"partition {self._passes}")

    def update(self, has_states: bool) -> None:
        """The optimizer step. Without states yet, it allocates them."""
        tape = self._tape
        tape.drop("bucket 0", "bucket 1", "large gradient")
        match self._sizes.stage:
            case 0:
                self._update_all(has_states)
            case 3:
                self._update_sub_groups(has_states)
            case _ if not self._sizes.is_offloaded:
                self._update_partition(has_states)
        tape.drop(*self._kept)

    def _partition(self, elements: int) -> None:
        """Stage 3: into the bucket, reduced, and added to the partition of this rank."""
        sizes, tape = self._sizes, self._tape
        tape.pulse(sizes.element * elements, GRADIENTS)
        part = -(-elements // sizes.ranks)
        if sizes.ranks > 1:
            tape.pulse(sizes.element * part, GRADIENTS, REDUCTIONS)
        if sizes.is_offloaded:
            tape.take("copy", sizes.element * part, GRADIENTS, REDUCTIONS)
            tape.pulse(NORM_BYTES * min(part, _NORM_ELEMENTS), UPDATE, REDUCTIONS)
            tape.pulse(sizes.master * part, UPDATE, REDUCTIONS)
            tape.drop("copy")

    def _into_bucket(self, name: str, elements: int) -> None:
        sizes, tape = self._sizes, self._tape
        self._take_buckets()
        tape.pulse(sizes.element * elements, GRADIENTS)
        if self._bucket and self._bucket + elements > sizes.zero.reduce_bucket:
            self._flush()
        self._bucket += elements
        if not sizes.is_offloaded:
            return
        if elements > sizes.zero.reduce_bucket:
            tape.take("large gradient", sizes.element * elements, GRADIENTS)
        tape.pulse(NORM_BYTES * min(elements, sizes.partition), UPDATE, self._stream)

    def _flush(self) -> None:
        self._bucket = 0
        if not self._sizes.is_offloaded:
            self._take_partition()

    def _take_buckets(self) -> None:
        sizes, tape = self._sizes, self._tape
        if not sizes.zero.is_contiguous or tape.is_alive("bucket 0"):
            return
        for index in range(2 if sizes.zero.overlaps else 1):
            tape.take(f"bucket {index}", sizes.element * sizes.zero.reduce_bucket, BUCKETS)

    def _take_partition(self) -> None:
        name = f"partition {self._passes}"
        if not self._tape.is_alive(name):
            self._tape.take(name, self._sizes.element * self._sizes.partition, GRADIENTS, self._stream)
            if self._passes == 1:
                self._kept.append(name)

    def _drop_own_gradients(self) -> None:
        """Those of this rank's partition were copied; the last ranks have the last parameters."""
        left = self._sizes.partition * self._sizes.element
        for name in [each for each in self._kept if each.startswith("gradient ")]:
            if left <= 0:
                break
            left -= self._tape.bytes_of(name)
            self._tape.drop(name)

    def _update_all(self, has_states: bool) -> None:
        sizes, tape = self._sizes, self._tape
        if sizes.master:
            tape.take("update", sizes.master * sizes.total, UPDATE)
        if sizes.master and sizes.is_one_pass:
            tape.drop(*self._kept)
        if not has_states:
            take_states(tape, sizes, "", sizes.total)
        at_once = sizes.total if sizes.updates_together else sizes.largest
        tape.pulse(sizes.optimizer_work * at_once, UPDATE)
        tape.drop("update")

    def _update_partition(self, has_states: bool) -> None:
        sizes, tape, part = self._sizes, self._tape, self._sizes.partition
        tape.pulse(NORM_BYTES * min(sizes.largest, part), UPDATE)
        tape.take("flat", sizes.element * part, UPDATE)
        if sizes.master != sizes.element:
            tape.take("update", sizes.master * part, UPDATE)
            tape.drop("flat")
        tape.drop(*self._kept)
        if not has_states:
            take_states(tape, sizes, "", part)
        tape.pulse(sizes.optimizer_work * part, UPDATE)
        tape.drop("update", "flat")

    def _update_sub_groups(self, has_states: bool) -> None:
        sizes, tape = self._sizes, self._tape
        if not sizes.is_offloaded:
            tape.pulse(NORM_BYTES * -(-sizes.largest // sizes.ranks), UPDATE)
        for index, elements in enumerate(sizes.sub_groups_on_gpu):
            if not sizes.is_offloaded:
                tape.take("flat", sizes.gradient * elements, UPDATE)
                tape.take("update", sizes.master * elements, UPDATE)
                tape.drop("flat")
            if not has_states:
                take_states(tape, sizes, f" {index}", elements)
            tape.pulse(sizes.optimizer_work * elements, UPDATE)
            tape.drop("update")


def take_states(tape: Tape, sizes: Sizes, label: str, elements: float) -> None:
    """Allocates the optimizer states of `elements` parameters, one tensor for each state."""
    tensors = max(1, sizes.state // 4)
    for index in range(tensors):
        tape.take(f"state {index}{label}", sizes.state * elements / tensors, STATES)
