"""The history of values of each key, by OmegaConf's merge rules."""

from collections.abc import Iterable
from itertools import takewhile

from hydra.core.override_parser.types import Override

from zpipe.compose.overrides import as_typed
from zpipe.compose.recording_loader import Layer
from zpipe.plans.provenance import DEFAULT, Origin
from zpipe.trees import ancestors, leaves

Chain = tuple[Origin, ...]


class Chains:
    """For each dotted key, its values and their sources, oldest first.

    Copies are cheap, because each chain is immutable.
    """

    def __init__(self, before: "Chains | None" = None) -> None:
        self.by_key: dict[str, Chain] = {} if before is None else dict(before.by_key)
        self._mappings: set[str] = set() if before is None else set(before._mappings)
        """Every key that contains other keys."""

    def with_layers(self, layers: Iterable[Layer]) -> "Chains":
        chains = Chains(self)
        for layer in layers:
            for key, value in leaves(layer.values):
                chains._add(key, Origin(source=layer.source, value=value))
        return chains

    def with_overrides(self, overrides: Iterable[Override]) -> "Chains":
        chains = Chains(self)
        for override in overrides:
            key, source = override.key_or_group, as_typed(override.input_line or "")
            if override.is_delete():
                chains._delete(key, source)
                continue
            value = override.value()
            given = leaves(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
            for leaf, part in given:
                chains._add(leaf, Origin(source=source, value=part))
        return chains

    def overridden(self) -> dict[str, list[Origin]]:
        """The chains of all keys that are not set by the schema alone."""
        return {key: list(chain) for key, chain in self.by_key.items() if chain[-1].source != DEFAULT}

    def _add(self, key: str, origin: Origin) -> None:
        before = self.by_key.get(key)
        if before is not None:
            self.by_key[key] = (*before, origin)
            return
        if key in self._mappings:
            if origin.value == {}:
                return  # an empty mapping adds nothing to a mapping
            self._forget(key)
        self.by_key[key] = (*self._replaced_above(key), origin)

    def _replaced_above(self, key: str) -> Chain:
        """The plain value that a mapping around this key replaces; empty mappings are not recorded."""
        replaced: Chain = ()
        for above in takewhile(lambda each: each not in self._mappings, ancestors(key)):
            self._mappings.add(above)
            replaced = self.by_key.pop(above, replaced)
        return tuple(origin for origin in replaced if origin.value != {})

    def _delete(self, key: str, source: str) -> None:
        self._forget(key)
        above = key.rpartition(".")[0]
        if above and not any(other.startswith(f"{above}.") for other in self.by_key):
            self._mappings.discard(above)
            self.by_key[above] = (Origin(source=source, value={}),)

    def _forget(self, key: str) -> None:
        """Drops the key and everything below it."""
        dropped = {other for other in (*self.by_key, *self._mappings) if f"{other}.".startswith(f"{key}.")}
        self.by_key = {other: chain for other, chain in self.by_key.items() if other not in dropped}
        self._mappings -= dropped
