"""Imports every configuration of a folder and compares the result with what the libraries make of the file.

    python -m campaigns.corpus FOLDER [--show CLASS]

FOLDER/files has the files, named OWNER__REPOSITORY__path__with__two__underscores. FOLDER/verdicts.tsv, if
it is there, has a line for each file: name, kind, whether plain Trainer takes it (yes, no), and a verdict on
zpipe.
"""

import argparse
import csv
import json
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from campaigns.upstream_verdict import accelerate_json, agreeing_run, referenced, verdict
from tests.support.equivalence import differences
from tests.support.importing import unnamed
from tests.support.planning import H200, gpus, plan_of
from zpipe.converters.accelerate import SIGNATURE_KEYS
from zpipe.converters.importer import Imported, import_files
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal

SAME, NAMED, UNNAMED = (
    "means the same",
    "means the same, but for what the notes name",
    "differs without a note",
)
RIGHT, LIMIT, WRONG = (
    "refused rightly: upstream refuses it",
    "refused rightly: a limit of zpipe",
    "refused wrongly",
)
UNPLANNED, TRACEBACK, LENIENT = (
    "imported, and the plan refuses it",
    "traceback",
    "imported; upstream refuses it",
)
CLASSES = (SAME, NAMED, LENIENT, RIGHT, LIMIT, WRONG, UNNAMED, UNPLANNED, TRACEBACK)
GOOD = {SAME, NAMED, LIMIT}

LIMITS = {
    "num_machines": "several machines",
    "parallelism_config": "sequence parallelism",
    "distributed_type": "no DeepSpeed",
    "precision": "fp16 at stage 0, where DeepSpeed divides by a loss scale that it never applied",
}
"""Keys of problems that are limits of zpipe, or training that DeepSpeed gets wrong."""


@dataclass(frozen=True)
class Result:
    """One file: what happened, and in which words."""

    name: str
    kind: str
    words: str
    upstream: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="append", default=[], metavar="CLASS", help="list files of a class")
    options = parser.parse_args()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        files = unfolded(options.folder / "files", Path(folder))
        results = [examined(name, file) for name, file in track(files.items(), console=Console(stderr=True))]
    report(results, verdicts(options.folder / "verdicts.tsv"), options.show)
    return int(any(result.kind == TRACEBACK for result in results))


def unfolded(folder: Path, target: Path) -> dict[str, Path]:
    """Copies the files to their places in their repositories, because some name others."""
    places = {}
    for file in sorted(folder.iterdir()):
        owner, repository, *path = file.name.split("__")
        place = target.joinpath(f"{owner}__{repository}", *path) if path else target / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        places[file.name] = place
    return places


def examined(name: str, file: Path) -> Result:
    """Imports the file, compiles the result and compares it."""
    try:
        upstream, config = of_upstream(file)
        return _examined(name, file, upstream, config)
    except Exception as error:
        return Result(name, TRACEBACK, f"{type(error).__name__}: {error}", "")


def _examined(name: str, file: Path, upstream: str, config: Mapping[str, Any] | None) -> Result:
    try:
        imported = import_files([file])
        problems = [finding.problem for finding in imported.findings]
    except Refusal as refusal:
        problems = list(refusal.problems)
    if problems:
        words = "; ".join(f"{each.key}={each.value}: {each.reason}" for each in problems)
        return Result(name, refused(upstream, [each.key for each in problems]), words, upstream)
    plan = planned(imported, config)
    if isinstance(plan, str):
        return Result(name, UNPLANNED, plan, upstream)
    if upstream or config is None:
        return Result(name, LENIENT, upstream, upstream)
    different = differences(config, plan)
    silent = unnamed(different, imported)
    if silent:
        return Result(name, UNNAMED, str(silent), upstream)
    return Result(name, NAMED if different else SAME, ", ".join(different), upstream)


def refused(upstream: str, keys: list[str]) -> str:
    if upstream:
        return RIGHT
    return LIMIT if set(keys) <= set(LIMITS) else WRONG


def planned(imported: Imported, config: Mapping[str, Any] | None) -> Plan | str:
    """The plan of the printed overrides, on the GPUs that they or the libraries ask for, or the fewest that
    they allow; or why there is none."""
    asked = [text.partition("=")[2] for text in imported.overrides if text.startswith("launcher.nproc")]
    processes = agreeing_run(config, "no", 0).processes if config else 1
    words = ""
    for count in map(int, asked or (processes, 1, 2, 4, 8, 16)):
        try:
            return plan_of(*imported.overrides, hardware=gpus(*[H200] * count))
        except Refusal as refusal:
            words = words or str(refusal).replace("\n", " ")
    return words


def of_upstream(file: Path) -> tuple[str, Mapping[str, Any] | None]:
    """What the libraries say about the file, empty if they take it, and the JSON that they read."""
    try:
        content = _content(file)
        if not set(content) & SIGNATURE_KEYS:
            return verdict(content), content
        name = (content.get("deepspeed_config") or {}).get("deepspeed_config_file")
        nested = referenced(file, str(name)) if name else None
        config = accelerate_json(content, _content(nested) if nested else name)
        precision = str(content.get("mixed_precision") or "no").lower()
        processes = content.get("num_processes") or 0
        return verdict(config, precision, processes), config
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0], None


def _content(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError:
        if file.suffix == ".json":
            raise
        value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise ValueError("no mapping")
    return value


def verdicts(file: Path) -> dict[str, dict[str, str]]:
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines, delimiter="\t")}


def report(results: list[Result], known: Mapping[str, Mapping[str, str]], shown: list[str]) -> None:
    out = Console(width=None if sys.stdout.isatty() else 160)
    counts = Counter(result.kind for result in results)
    table = Table("outcome", "files", title=f"{len(results)} files")
    for kind in CLASSES:
        table.add_row(kind, str(counts[kind]))
    out.print(table)
    for line in _shares(results, known):
        out.print(line)
    for result in results:
        if any(part in result.kind for part in shown):
            out.print(
                f"{result.name}: {result.kind}\n    {result.words[:600]}", markup=False, highlight=False
            )


def _shares(results: list[Result], known: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    taken = [result for result in results if not result.upstream]
    good = sum(result.kind in GOOD for result in taken)
    yield f"{good} of {len(taken)} files that the installed libraries take keep their meaning or meet a limit"
    listed = [result for result in results if result.name in known]
    column = "plain_trainer_takes_it"
    other = [each for each in listed if (known[each.name][column] == "yes") == bool(each.upstream)]
    yield f"of {len(listed)} listed verdicts {len(other)} differ from what the installed libraries say:"
    yield from (
        f"  {each.name}: listed {known[each.name][column]}; {each.upstream or 'taken'}" for each in other
    )


if __name__ == "__main__":
    sys.exit(main())
