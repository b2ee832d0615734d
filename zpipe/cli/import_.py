"""`zpipe import FILE... [OVERRIDES]`: converts another tool's configuration to overrides or a recipe."""

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
No overrides are printed and no recipe is written yet. Add an override after the file names, or use --fix to
apply what the messages propose. The file itself is never changed."""


def add_arguments(parser: ArgumentParser) -> None:
    from argparse import SUPPRESS

    parser.add_argument("inputs", nargs="+", metavar="FILE|OVERRIDE", help="files, and overrides that win")
    parser.add_argument("--recipe", type=Path, metavar="FILE.yaml", help="write a recipe, print no overrides")
    parser.add_argument("--fix", action="store_true", help="apply the fixes that the messages propose")
    parser.add_argument("--mend", action="store_true", dest="fix", help=SUPPRESS)  # the old name of --fix


def run(options: Namespace) -> int:
    """Prints overrides or writes a recipe; findings go to stderr. Raises Refusal for unreadable input."""
    from zpipe.converters.importer import import_files

    files = [Path(text) for text in options.inputs if _is_file(text)]
    overrides = [text for text in options.inputs if not _is_file(text)]
    _check_request(files, options.recipe)
    imported = import_files(files, overrides, options.fix)
    _print("note", sorted(imported.notes, key=lambda note: not note.fix))  # first what the user may change
    if not _report(imported.findings, options.fix):
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
        raise Refusal([Problem("--recipe", str(recipe), "the file name of a recipe must end in .yaml")])
    if recipe.exists():
        raise Refusal([Problem("--recipe", str(recipe), "already exists", "a new file")])
    if not recipe.absolute().parent.is_dir():
        reason = "its folder does not exist"
        raise Refusal([Problem("--recipe", str(recipe), reason, "a file in an existing folder")])


def _report(findings: Sequence[Finding], fix: bool) -> bool:
    """Prints the findings. Returns whether the result can be written."""
    from zpipe.terminal.console import print_problems

    unfixed = [_with_a_fix(each) for each in findings if not (fix and each.automatic_fix)]
    if not fix:
        if unfixed:
            print_problems(unfixed, _count(len(unfixed), "problem"))
            print(HINT, file=sys.stderr)
        return not unfixed
    _print("fixed problem", [_as_fixed(each) for each in findings if each.automatic_fix])
    if unfixed:
        print_problems(unfixed, f"{_count(len(unfixed), 'problem')} that need a decision: add an override")
    return not unfixed


def _with_a_fix(finding: Finding) -> Problem:
    """The problem with something to try: if nothing else is proposed, what `--fix` does."""
    problem = finding.problem
    if problem.fix or not finding.automatic_fix:
        return problem
    return problem._replace(fix=f"--fix ({finding.automatic_fix})")


def _as_fixed(finding: Finding) -> Problem:
    """The problem with the applied fix instead of a proposal."""
    problem = finding.problem
    return Problem(problem.key, problem.value, f"{problem.reason}\n  fixed:   {finding.automatic_fix}")


def _print(kind: str, problems: Sequence[Problem]) -> None:
    from zpipe.terminal.console import print_problems

    if problems:
        print_problems(problems, _count(len(problems), kind))
        print(file=sys.stderr)


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


def _write(imported: Imported, files: Sequence[Path], recipe: Path | None) -> None:
    from zpipe.converters.writing import command_line, recipe_of
    from zpipe.runfolder.atomic import write_text
    from zpipe.terminal.console import show

    if recipe is None:
        show(command_line(imported.overrides))
        return
    names = [file.name for file in files]
    write_text(recipe, recipe_of(recipe, names, imported.options, imported.values))
    show(f"written: {recipe}")
