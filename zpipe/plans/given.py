"""What the user has set, as against what zpipe's own options set."""

from dataclasses import dataclass
from typing import Any

from zpipe.plans.provenance import CHOSEN, DEFAULT, Origin, Provenance
from zpipe.resources import CONF

_OWN = (f"{CONF.name}/", DEFAULT)


@dataclass(frozen=True)
class Given:
    """Which keys were set by an override or a file of the user: a choice keeps them."""

    provenance: Provenance

    def has(self, key: str) -> bool:
        newest = self._newest(key)
        return newest is not None and not newest.source.startswith(_OWN)

    def outweighs(self, group: str, key: str) -> bool:
        """Whether the key stays as it is with another option of the group."""
        newest, choice = self._newest(key), self.provenance.options.get(group)
        is_replaced = newest is not None and choice is not None and newest.source == choice.file
        return self.has(key) and not is_replaced

    def value(self, key: str) -> Any:
        """As it was written."""
        newest = self._newest(key)
        return None if newest is None else newest.value

    def settles(self, group: str, *others: str) -> bool:
        """Whether an option of the group was chosen, or a key of it or one of the others was set."""
        prefix = f"{group}."
        keys = {*others, *(key for key in self.provenance.experiment if key.startswith(prefix))}
        return group in self.provenance.options or any(map(self.has, keys))

    def _newest(self, key: str) -> Origin | None:
        """Where the value comes from, but for what the plan chose."""
        chain = self.provenance.chain(key)
        return next((origin for origin in reversed(chain) if not origin.source.startswith(CHOSEN)), None)
