"""Paths as users type them."""

import os
from pathlib import Path


def absolute(path: Path) -> Path:
    """The absolute path, without `..`: a folder that is named in two ways would be taken for two."""
    return path.resolve() if ".." in path.parts else path.absolute()


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` replaced. With an unknown user it stays as it is, and no such file is found."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError then
