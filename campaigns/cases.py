"""Runs every listed fault of a folder and prints a line each: python -m campaigns.cases FOLDER [NAME …]

FOLDER has one folder per case with a script `cmd`, `import/` with configurations and `attack/` with scripts.
cases.yaml beside this file has what a user should get: exit codes, what the output must and must not say.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zpipe.terminal.console import print_table

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CASE_SECONDS = 900.0
EXIT_LINE = re.compile(r"^exit code (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What one case printed, and why it is open; fixed if there is no reason."""

    name: str
    exit_code: int
    output: str
    reason: str

    def row(self) -> tuple[str, str, str, str]:
        lines = [line for line in self.output.splitlines() if line.strip() and not EXIT_LINE.match(line)]
        shown = self.reason or (lines[-1].strip() if lines else "")
        return self.name, "open" if self.reason else "fixed", str(self.exit_code), shown[:140]


def run_cases(source: Path, wanted: set[str]) -> Iterator[Result]:
    """Every case of cases.yaml, or the wanted ones. Works on a copy; deletes nothing but the copy."""
    expected = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="zpipe-cases-") as scratch:
        prepared = _prepare(source, Path(scratch))
        for name, expectation in expected.items():
            if not wanted or name in wanted:
                yield _run(name, expectation, prepared)


def _prepare(source: Path, scratch: Path) -> Path:
    copy = scratch / "faults"
    shutil.copytree(source, copy)
    attack = copy / "attack"
    places = {"@ATTACK@": str(attack), "@BIN@": str(BIN), "@PROJECT@": str(HERE.parent)}
    for script in attack.glob("*"):
        text = script.read_text(encoding="utf-8")
        for mark, place in places.items():
            text = text.replace(mark, place)
        script.write_text(text, encoding="utf-8")
    (attack / "cases").symlink_to(attack)
    (attack / "work").mkdir()
    (attack / "work" / "tiny.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    return copy


def _run(name: str, expectation: dict[str, Any], prepared: Path) -> Result:
    kind, _, rest = name.partition("/")
    if kind == "import":
        argv = [str(BIN / "zpipe"), "import", str(prepared / "import" / rest)]
        folder = prepared
    elif kind == "attack":
        argv, folder = ["bash", str(prepared / "attack" / rest), *expectation.get("arguments", [])], prepared
    else:
        argv, folder = ["sh", str(prepared / name / "cmd")], prepared / name
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(Path.home()),
        "HF_HUB_OFFLINE": "1",
    }
    environment |= {"PY": str(BIN / "python"), "ZPIPE": str(BIN / "zpipe"), "LANG": "C.UTF-8"}
    try:
        ended = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, timeout=CASE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Result(name, -1, "", f"did not end within {CASE_SECONDS:.0f} s")
    output = (ended.stdout + ended.stderr).decode(errors="replace")
    codes = EXIT_LINE.findall(output)
    exit_code = int(codes[-1]) if codes else ended.returncode
    return Result(name, exit_code, output, _why_open(expectation, exit_code, output))


def _why_open(expectation: dict[str, Any], exit_code: int, output: str) -> str:
    allowed = expectation.get("exits")
    if allowed is not None and exit_code not in allowed:
        return f"exit code {exit_code} instead of {' or '.join(map(str, allowed))}: {output.strip()[-200:]!r}"
    for pattern in expectation.get("says", []):
        if not re.search(pattern, output):
            return f"says nothing like {pattern!r}: {output.strip()[-200:]!r}"
    for pattern in ("Traceback", *expectation.get("never", [])):
        if match := re.search(pattern, re.sub(r"\b0 tracebacks|tracebacks? 0\b", "", output)):
            return f"says {match[0]!r}"
    return ""


def main(argv: list[str]) -> int:
    if not argv:
        print(__doc__)
        return 2
    opened = 0
    for result in run_cases(Path(argv[0]), set(argv[1:])):
        name, state, exit_code, shown = result.row()
        print(f"{state:5} {name:45} exit {exit_code:>3}  {shown}", flush=True)
        opened += state == "open"
    print_table(("open", "cases"), [(str(opened), "see the lines above")])
    return 1 if opened else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
