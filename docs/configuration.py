"""Writes docs/configuration.md from the schema, the options and the installed libraries: `make docs`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docs.sources import deepspeed_defaults, meanings, trainer_help
from zpipe.checks.offload import NVME_ONLY
from zpipe.resources import CONF, RECIPES, config_groups
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment
from zpipe.schema.json_names import json_key
from zpipe.schema.stage import STAGE3_ONLY, STAGES_1_AND_2_ONLY

PAGE = Path(__file__).with_name("configuration.md")

INTRODUCTION = """\
# Configuration

Every configuration key. `make docs` generates this page from the schema; do not edit it by hand.

- **key**: as in an override, `zpipe stage.reduce_bucket_size=5e8`. Recipes use the same keys.
- **default**: zpipe's default. A key that is null is not written to the JSON; DeepSpeed {version} then uses
  the default shown *in italics*.
- **stages**: the ZeRO stages at which the key is used. zpipe refuses it at other stages, because DeepSpeed
  would ignore it.
- **in the JSON**: the key's name in DeepSpeed's JSON.

An option (`GROUP=OPTION`) sets several keys; see the files under [conf/](../conf).
"""

UNITS = {
    "bytes": "bytes",
    "elements": "elements",
    "seconds": "seconds",
    "tokens": "tokens",
    "sequences": "sequences",
    "ranks": "ranks",
    "micro-batches": "micro-batches",
    "threads": "threads",
    "requests in flight": "requests",
    "worker processes": "processes",
    "fraction": "fraction",
    "steps": "steps",
    "steps or epochs": "steps or epochs",
    "epochs": "epochs",
    "gib": "GiB",
    "gb/s": "GB/s",
    "tflop/s": "TFLOP/s",
}
"""The unit of a number is the first of these words in its meaning; the longest, if several start there."""

STAGES = {
    "offload.offload_optimizer": "1 to 3",
    "offload.offload_optimizer.ratio": "3",
    "offload.offload_optimizer.cpuadam_cores_perc": "3",
    "offload.offload_param": "3",
    "offload.aio": "3",
    "offload.nvme_path": "3",
    "offload.pin_memory": "1 to 3",
    "precision.fp16": "1 to 3",
    "compile": "1 to 3",
    "stage.leaf_module": "3",
    "stage.zenflow": "1 to 3",
    "stage.stage": "all",
    "stage": "1 to 3",
}
"""Stages at which the keys below a prefix are used. The longest matching prefix wins; without one, all."""


def page() -> str:
    """The complete page."""
    version = _installed_version()
    parts = [INTRODUCTION.format(version=version), _contents()]
    for name, field in Experiment.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            parts.append(_group(name, group))
    parts.append(_top_level())
    return "\n".join(parts)


def _installed_version() -> str:
    from importlib.metadata import version

    return version("deepspeed")


def _contents() -> str:
    links = [f"[{name}](#{name})" for name, field in Experiment.model_fields.items() if _is_group(field)]
    return f"{' · '.join(links)} · [strict](#strict)\n"


def _is_group(field: Any) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Group)


def _group(name: str, group: type[Group]) -> str:
    lines = [f"## {name}", "", _sentence(group), ""]
    lines += _options(name)
    lines += _tables(name, group)
    if name == "stage":
        lines += [
            "### zeropp",
            "",
            "Options of ZeRO++, which set keys under `stage.`.",
            "",
            "| option | |",
            "|---|---|",
        ]
        lines += [
            f"| `zeropp={option}` | {_comment('zeropp', option)} |" for option in config_groups()["zeropp"]
        ]
        lines += [""]
    return "\n".join(lines)


def _options(group: str) -> list[str]:
    options = config_groups().get(group, [])
    rows = [f"| `{group}={option}` | {_comment(group, option)} |" for option in options]
    return ["| option | |", "|---|---|", *rows, ""] if rows else []


def _sentence(group: type[Group]) -> str:
    return " ".join((group.__doc__ or "").split())


def _comment(group: str, option: str) -> str:
    """The option's leading comments, which describe it."""
    folder = RECIPES if group == "recipe" else CONF / group
    lines = (folder / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    return _cell(" ".join(line[2:] for line in lines if line.startswith("# ") and "@package" not in line))


def _tables(prefix: str, group: type[Group]) -> list[str]:
    """A table for the block, and one with a heading for each nested block."""
    fields = group.model_fields.items()
    rows = [_row(f"{prefix}.{name}", name, group) for name, field in fields if not _is_group(field)]
    lines = [*_header(), *rows, ""] if rows else []
    for name, field in fields:
        if _is_group(field):
            inner: type[Group] = field.annotation  # type: ignore[assignment]
            lines += [f"### {prefix}.{name}", "", _sentence(inner), "", *_tables(f"{prefix}.{name}", inner)]
    return lines


def _header() -> list[str]:
    return [
        "| key | type | default | unit | stages | in the JSON | meaning |",
        "|---|---|---|---|---|---|---|",
    ]


def _row(key: str, name: str, group: type[Group]) -> str:
    node = group.model_json_schema()["properties"][name]
    meaning = meanings(group).get(name) or trainer_help(name)
    kind = ", ".join([" or ".join(_kinds(node)), *_bounds(_annotation(group, name))])
    unit = _unit(meaning) if re.search("integer|number", kind) else ""
    target = json_key("train.adam_beta1" if key == "train.adam_beta2" else key)
    cells = [
        f"`{key}`",
        kind,
        _default(key, group.model_fields[name].get_default(call_default_factory=True)),
        unit,
        _stages(key, meaning),
        f"`{target}`" if target else "",
        meaning,
    ]
    return f"| {' | '.join(map(_cell, cells))} |"


def _annotation(group: type[Group], name: str) -> Any:
    return get_type_hints(group, include_extras=True)[name]


def _kinds(node: dict[str, Any]) -> Iterator[str]:
    for option in node.get("anyOf", [node]):
        if option.get("type") == "null":
            continue
        if "enum" in option or "const" in option:
            yield ", ".join(f"`{value}`" for value in option.get("enum", [option.get("const")]))
        else:
            yield _kind(option)


def _kind(option: dict[str, Any]) -> str:
    names = {"boolean": "true, false", "integer": "integer", "number": "number", "string": "string"}
    return {**names, "array": "list", "object": "mapping"}.get(option.get("type", ""), "value")


def _bounds(annotation: Any) -> list[str]:
    """The bounds of a number in pydantic's Field, at any depth of the type."""
    found = []
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        for bound in getattr(part, "metadata", ()) or ():
            signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
            found += [
                f"{sign} {getattr(bound, name)}" for name, sign in signs.items() if hasattr(bound, name)
            ]
        found += _bounds(part)
    return list(dict.fromkeys(found))


def _default(key: str, value: Any) -> str:
    if value is not None:
        return f"`{_shown(value)}`"
    theirs = deepspeed_defaults().get(json_key(key) or "")
    return f"*{_shown(theirs)}*" if theirs is not None else "null"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and value:
        return ", ".join(str(each).rpartition(".")[2] for each in value)
    if value == sys.maxsize:
        return "no limit"
    if isinstance(value, int) and abs(value) >= 1_000_000 and value % 1_000_000 == 0:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return '""' if value == "" else str(value)


def _unit(meaning: str) -> str:
    lowered = meaning.lower()
    found = [
        (match.start(), unit) for word, unit in UNITS.items() if (match := re.search(rf"\b{word}\b", lowered))
    ]
    return min(found, key=lambda each: (each[0], -len(each[1])))[1] if found else ""


def _stages(key: str, meaning: str) -> str:
    name, block = key.rpartition(".")[2], key.partition(".")[0]
    if named := re.search(r"\(stages? ([0-3](?: (?:and|to) [0-3])?)", meaning):
        return named[1]
    if block == "offload" and name in NVME_ONLY:
        return "3"
    if block == "stage" and name in STAGE3_ONLY | STAGES_1_AND_2_ONLY:
        return "3" if name in STAGE3_ONLY else "1 and 2"
    nearest = [prefix for prefix in STAGES if key == prefix or key.startswith(f"{prefix}.")]
    return STAGES[max(nearest, key=len)] if nearest else "all"


def _cell(text: str) -> str:
    """Text that is safe in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _top_level() -> str:
    return "\n".join(["## strict", "", *_header(), _row("strict", "strict", Experiment), ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written to {PAGE}")
