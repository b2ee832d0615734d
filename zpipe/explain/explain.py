"""Explains the values of a plan: `zpipe plan --explain [KEY]`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from zpipe.compile.derivations import experiment_key
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import DEFAULT, Origin, chosen_by
from zpipe.problems import Problem, Refusal, nearest
from zpipe.trees import leaves, value_at

Rows = list[tuple[str, ...]]
COLUMNS = ("key", "value", "from", "in place of")


@dataclass(frozen=True)
class Explanation:
    """One key of the Experiment or of the JSON."""

    key: str
    value: Any
    source: str
    """What set it: a file, an override, `default` for the schema, or the rule that derives it."""
    why: str = ""
    """The override or file that chose the option, unless it is the default option."""
    replaced: list[str] = field(default_factory=list)
    """Earlier values with their sources, latest first."""
    follows: list[str] = field(default_factory=list)
    """For a key of the JSON, the keys of the Experiment that it is derived from."""
    serves: list[str] = field(default_factory=list)
    """Keys of the JSON that are derived from this one."""
    note: str = ""


def explain(plan: Plan, key: str = "") -> list[Explanation]:
    """Explains the key and all keys below it; without a key, everything that is not a schema default.

    Raises Refusal with similar keys if there is no such key.
    """
    of_experiment = [name for name, _ in leaves(plan.experiment.model_dump())]
    of_json = list(plan.provenance.ds_config)
    if not key:
        of_experiment = [name for name in of_experiment if plan.provenance.chain(name)]
        return [*_of_experiment(plan, of_experiment), *_of_json(plan, of_json)]
    found = [
        *_of_experiment(plan, _at_or_below(key, of_experiment)),
        *_of_json(plan, _at_or_below(key, of_json)),
    ]
    return found or [_not_written(plan, key, [*of_experiment, *of_json])]


def rows(explanations: Iterable[Explanation]) -> Rows:
    """One row per key, with `COLUMNS`."""
    return [(each.key, shown(each.value), each.source, ", ".join(each.replaced)) for each in explanations]


def page(explanation: Explanation) -> str:
    """The full explanation of one key as text."""
    source = ", ".join(filter(None, [explanation.source, explanation.why]))
    lines = [f"{explanation.key} = {shown(explanation.value)}", f"  from          {source}"]
    for title, texts in (
        ("derived from", explanation.follows),
        ("in place of", explanation.replaced),
        ("sets", explanation.serves),
        ("note", filter(None, [explanation.note])),
    ):
        lines += [f"  {title:<13} {text}" for text in texts]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """A value as JSON, with strings unquoted."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def source_in(plan: Plan, key: str) -> str:
    """What set a key of the Experiment or of the JSON: a file, an override, the schema or a rule."""
    derivation = plan.provenance.ds_config.get(key)
    if derivation is None or derivation.rule is None:
        return _chain(plan, key if derivation is None else derivation.keys[0])[-1].source
    return derivation.rule


def _of_experiment(plan: Plan, keys: Iterable[str]) -> Iterator[Explanation]:
    for key in keys:
        *earlier, last = _chain(plan, key)
        yield Explanation(
            key=key,
            value=value_at(plan.experiment, key),
            source=last.source,
            why=_why(plan, last),
            replaced=_replaced(earlier),
            serves=[name for name, follows in plan.provenance.ds_config.items() if key in follows.keys],
        )


def _of_json(plan: Plan, keys: Iterable[str]) -> Iterator[Explanation]:
    values = dict(leaves(plan.ds_config))
    for key in keys:
        derivation = plan.provenance.ds_config[key]
        note = f"stays auto: {plan.unresolved[key]}" if key in plan.unresolved else ""
        if derivation.rule is None:
            (source,) = derivation.keys
            yield _copied(plan, source, key, values[key], note)
        else:
            follows = [_with_source(plan, name) for name in derivation.keys]
            yield Explanation(key=key, value=values[key], source=derivation.rule, follows=follows, note=note)


def _copied(plan: Plan, source: str, key: str, value: Any, note: str) -> Explanation:
    *earlier, last = _chain(plan, source)
    return Explanation(
        key=key,
        value=value,
        source=last.source,
        why=_why(plan, last),
        replaced=_replaced(earlier),
        follows=[source],
        note=note,
    )


def _not_written(plan: Plan, key: str, known: list[str]) -> Explanation:
    """A DeepSpeed key that is not in the JSON of this plan. Raises Refusal for an unknown key."""
    source = experiment_key(key)
    if source is None or "." not in source:
        near = _containing(key, known) or nearest(key, known)
        fix = " or ".join(f"--explain {name}" for name in near)
        raise Refusal(
            [Problem("explain", key, "neither the experiment nor the JSON has such a key", fix=fix)]
        )
    note = f"not in the JSON of this plan; {source} sets it"
    return _copied(plan, source, key, value_at(plan.experiment, source), note)


def _containing(key: str, known: Iterable[str]) -> list[str]:
    matches = sorted((name for name in known if key in name.rpartition(".")[2]), key=len)
    return matches[:3]


def _at_or_below(key: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name == key or name.startswith(f"{key}.")]


def _chain(plan: Plan, key: str) -> list[Origin]:
    default = Origin(source=DEFAULT, value=value_at(plan.experiment, key))
    return plan.provenance.chain(key) or [default]


def _why(plan: Plan, origin: Origin) -> str:
    reason = chosen_by(plan.provenance.options, origin.source)
    return f"chosen by {reason}" if reason else ""


def _replaced(earlier: list[Origin]) -> list[str]:
    return [f"{shown(origin.value)} ({origin.source})" for origin in reversed(earlier)]


def _with_source(plan: Plan, key: str) -> str:
    return f"{key} = {shown(value_at(plan.experiment, key))} ({_chain(plan, key)[-1].source})"
