"""The swap folder of a run: its own, marked as such, and removed only if the mark says so."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.runfolder.folder import private_name
from zpipe.runfolder.foreign_files import is_below, read_bytes
from zpipe.schema.offload import Offload

MARK = ".zpipe-run"
"""A file in the swap folder that names the run folder."""


def swap_folder_of(offload: Offload, run_dir: Path) -> Path | None:
    """The swap folder of the run in `run_dir`; None without NVMe offload.

    DeepSpeed empties its swap folder at the start, so each run folder has its own below a shared path.
    """
    if "nvme" not in (offload.offload_optimizer.device, offload.offload_param.device):
        return None
    if offload.nvme_path is None:
        return run_dir / "swap"
    return expanded(offload.nvme_path).absolute() / private_name(run_dir)


def create_swap_folder(plan: Plan) -> None:
    """Creates and marks the folder. Raises OSError if that fails, FileExistsError if another run uses it."""
    if plan.swap_dir is None:
        return
    folder, own = Path(plan.swap_dir), os.fsencode(plan.run_dir)
    if _leads_away(folder, Path(plan.run_dir)):
        raise FileExistsError(17, "there is a link on the way to it", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    is_marked = os.path.lexists(mark)
    if (is_marked and read_bytes(mark) != own) or (not is_marked and any(folder.iterdir())):
        raise FileExistsError(17, "it has files that are not of this run", str(folder))
    if not is_marked:
        with mark.open("xb") as file:
            file.write(own)


def folders_to_create(plan: Plan) -> list[Path]:
    """The swap folder and the folders above it, as far as they do not exist yet; innermost first."""
    if plan.swap_dir is None:
        return []
    folder = Path(plan.swap_dir)
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_swap_folder(plan: Plan) -> None:
    """Removes the folder if this run created it; a plan that names any other folder removes nothing."""
    run_dir = Path(plan.run_dir)
    expected = swap_folder_of(plan.experiment.offload, run_dir)
    if plan.swap_dir is None or expected is None or Path(plan.swap_dir) != expected:
        return
    with suppress(OSError):
        if (
            not expected.is_symlink()
            and not _leads_away(expected, run_dir)
            and read_bytes(expected / MARK) == os.fsencode(plan.run_dir)
        ):
            shutil.rmtree(expected, ignore_errors=True)


def _leads_away(folder: Path, run_dir: Path) -> bool:
    """Whether a link in the run folder, which may come from somebody else, leads to another place."""
    return run_dir in folder.parents and (run_dir.is_symlink() or not is_below(folder, run_dir))
