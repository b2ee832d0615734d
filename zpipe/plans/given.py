"""What the user has set, as against what zpipe's own options set."""

from dataclasses import dataclass

from zpipe.plans.provenance import CHOSEN, Provenance
from zpipe.resources import CONF

_OWN = (f"{CONF.name}/", CHOSEN)


@dataclass(frozen=True)
class Given:
    """Which keys were set by an override or a file of the user: a choice keeps them."""

    provenance: Provenance

    def has(self, key: str) -> bool:
        chain = self.provenance.chain(key)
        return bool(chain) and not chain[-1].source.startswith(_OWN)

    def settles(self, group: str, *others: str) -> bool:
        """Whether an option of the group was chosen, or a key of it or one of the others was set."""
        prefix = f"{group}."
        keys = {*others, *(key for key in self.provenance.experiment if key.startswith(prefix))}
        return group in self.provenance.options or any(map(self.has, keys))
