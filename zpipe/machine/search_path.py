"""PATH as the workers get it."""

import os
from collections.abc import Mapping
from pathlib import Path


def reachable_path(environ: Mapping[str, str]) -> dict[str, str]:
    """PATH without the folders that this user may not enter, as after `su`; empty without a PATH.

    Looking for a program there raises PermissionError, which DeepSpeed does not expect
    (deepspeed/utils/numa.py, get_numa_cores).
    """
    if "PATH" not in environ:
        return {}
    folders = environ["PATH"].split(os.pathsep)
    return {"PATH": os.pathsep.join(folder for folder in folders if not _is_denied(folder))}


def _is_denied(folder: str) -> bool:
    try:
        Path(folder).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(folder or ".", os.X_OK, effective_ids=True)
