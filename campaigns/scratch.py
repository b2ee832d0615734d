"""What the campaigns that train have in common: their options, their folder and their text."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.process import REPOSITORY


def parser(description: str | None, what: str) -> argparse.ArgumentParser:
    """The options --only and --keep; `what` is chosen by its name."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--only", nargs="+", default=[""], help=f"{what} whose name contains one of these")
    options.add_argument("--keep", type=Path, help="a new folder that stays, with every run")
    return options


@contextmanager
def folder(keep: Path | None, name: str) -> Iterator[Path]:
    """The folder to keep, which may be new, or a scratch folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"zpipe-{name}-") as scratch:
        base = keep or Path(scratch)
        base.mkdir(parents=True, exist_ok=True)
        yield base


def write_text(base: Path) -> Path:
    """A file with text to train on."""
    file = base / "train.txt"
    file.write_text((REPOSITORY / "LICENSE").read_text(encoding="utf-8") * 4, encoding="utf-8")
    return file
