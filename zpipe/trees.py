"""Nested mappings addressed by dotted keys, as in overrides: `stage.overlap_comm`."""

from collections.abc import Iterator, Mapping
from typing import Any

Tree = dict[str, Any]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf. An empty mapping is a leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def flatten(tree: Mapping[str, Any]) -> Tree:
    """All leaves by their dotted keys."""
    return dict(leaves(tree))


def unflatten(values: Mapping[str, Any]) -> Tree:
    """The tree with these values at these dotted keys."""
    tree: Tree = {}
    for key, value in values.items():
        set_at(tree, key, value)
    return tree


def ancestors(key: str) -> Iterator[str]:
    """The dotted keys of the mappings around a key, innermost first: `a.b` and `a` for `a.b.c`."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def value_at(tree: Any, key: str) -> Any:
    """The value at a dotted key of nested mappings or models; None if there is none."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else getattr(tree, name, None)
    return tree


def set_at(tree: Tree, key: str, value: Any) -> None:
    """Sets a dotted key in place. Adds missing mappings; a mapping replaces any other value in its way."""
    *blocks, name = key.split(".")
    for block in blocks:
        if not isinstance(tree.get(block), dict):
            tree[block] = {}
        tree = tree[block]
    tree[name] = value


def without_empty(tree: Mapping[str, Any]) -> Tree:
    """A copy without empty mappings, at every depth."""
    pruned = {
        name: without_empty(value) if isinstance(value, Mapping) else value for name, value in tree.items()
    }
    return {name: value for name, value in pruned.items() if value != {}}
