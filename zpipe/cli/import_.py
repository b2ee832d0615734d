"""`zpipe import FILE... [OVERRIDES]`: what another tool's configuration is in zpipe's words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from zpipe.converters.importer import Imported
    from zpipe.converters.result import Finding

OVERVIEW = {"import FILE...": "convert a DeepSpeed JSON, accelerate's YAML or TrainingArguments to overrides"}

HINT = """
Nothing was written. Mend the file, add an override that decides, or let --mend do what is proposed: it
leaves out what DeepSpeed does not know, and gives a refused setting the value that its message proposes."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="FILE|OVERRIDE", help="files, and overrides that win")
    parser.add_argument("--recipe", type=Path, metavar="FILE.yaml", help="write a recipe, print no overrides")
    parser.add_argument("--mend", action="store_true", help="do what the messages propose, and say so")


def run(options: Namespace) -> int:
    """Prints overrides or writes a recipe; findings go to stderr. Raises Refusal for an unreadable file."""
    from zpipe.converters.importer import import_files

    files = [Path(text) for text in options.inputs if _is_file(text)]
    given = [text for text in options.inputs if not _is_file(text)]
    _check_request(files, options.recipe)
    imported = import_files(files, given, options.mend)
    _say("note", imported.notes)
    if not _report(imported.findings, options.mend):
        return Exit.REFUSED
    _write(imported, files, options.recipe)
    return Exit.FINISHED


def _is_file(text: str) -> bool:
    return "=" not in text or Path(text).is_file()


def _check_request(files: Sequence[Path], recipe: Path | None) -> None:
    allowed = "a DeepSpeed JSON, an accelerate configuration, or TrainingArguments as YAML or JSON"
    if not files:
        raise Refusal([Problem("import", "", "no file is given", allowed)])
    if recipe is None:
        return
    if recipe.suffix != ".yaml":
        raise Refusal([Problem("--recipe", str(recipe), "a recipe's file name ends in .yaml")])
    if recipe.exists():
        raise Refusal([Problem("--recipe", str(recipe), "is there already", "a new file")])
    if not recipe.absolute().parent.is_dir():
        raise Refusal([Problem("--recipe", str(recipe), "its folder is not there", "a file in a folder")])


def _report(findings: Sequence[Finding], mend: bool) -> bool:
    """Prints the findings; whether nothing stands in the way of writing."""
    from zpipe.terminal.summary import print_problems

    open_ = [each.problem for each in findings if not (mend and each.mended)]
    if not mend:
        if open_:
            print_problems(open_, _count(len(open_), "problem"))
            print(HINT, file=sys.stderr)
        return not open_
    _say("mended problem", [_as_mended(each) for each in findings if each.mended])
    if open_:
        print_problems(open_, f"{_count(len(open_), 'problem')} that only you can decide, with an override")
    return not open_


def _as_mended(finding: Finding) -> Problem:
    """What was proposed has been done: the message ends with it instead."""
    problem = finding.problem
    return Problem(problem.key, problem.value, f"{problem.reason}\n  mended:  {finding.mended}")


def _say(kind: str, problems: Sequence[Problem]) -> None:
    from zpipe.terminal.summary import print_problems

    if problems:
        print_problems(problems, _count(len(problems), kind))
        print(file=sys.stderr)


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _write(imported: Imported, files: Sequence[Path], recipe: Path | None) -> None:
    from zpipe.converters.writing import command_line, recipe_of
    from zpipe.plan.plan import write_text

    if recipe is None:
        print(command_line(imported.overrides))
        return
    names = [file.name for file in files]
    write_text(recipe, recipe_of(recipe, names, imported.options, imported.values))
    print(f"written: {recipe}")
