"""The control groups of this process, through which containers and batch jobs limit memory and CPU time.

Upstream: Linux, Documentation/admin-guide/cgroup-v2.rst and Documentation/admin-guide/cgroup-v1/.
"""

# Read here because no library fits: psutil ignores control groups, and loky.cpu_count reads only the root of
# the mount, where the limits of systemd units and Slurm steps are not, and would slow planning down by half.

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MOUNTS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """The files of one controller in one group."""

    folder: Path
    version: int
    """1 or 2."""

    def words(self, file: str) -> list[str]:
        """The words in the first line of a file; empty if it cannot be read."""
        lines = lines_of(self.folder / file)
        return lines[0].split() if lines else []

    def number(self, file: str) -> int | None:
        """The number in a file; None if there is none, as in `max` and `-1`."""
        words = self.words(file)
        return int(words[0]) if words and words[0].isdigit() else None


def groups(controller: str, proc: Path = PROC, mounts: Path = MOUNTS) -> list[Group]:
    """The group of this process under `memory` or `cpu`, followed by its ancestors; empty if unknown."""
    for line in lines_of(proc / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return [Group(folder, 1) for folder in _upwards(mounts / controller, path)]
        if number == "0" and (mounts / "cgroup.controllers").exists():
            return [Group(folder, 2) for folder in _upwards(mounts, path)]
    return []


def lines_of(file: Path) -> list[str]:
    """The lines of a file; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def entry(file: Path, name: str) -> int:
    """The number after a name in a file of names and numbers; 0 if it is missing."""
    for line in lines_of(file):
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _upwards(root: Path, path: str) -> list[Path]:
    """In a container the path may be the host's; then the root of the mount is the container's own group."""
    folder = root / path.lstrip("/")
    folders = [each for each in (folder, *folder.parents) if each.is_relative_to(root)]
    return [each for each in folders if each.is_dir()]
