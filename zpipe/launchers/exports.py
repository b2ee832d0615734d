"""What DeepSpeed's runner writes into the command line of every host, which any user of the host can read.

It exports variables by the beginnings of their names, and those of a file. It puts unusual values between
double quotes, where the shell of the host still executes `$(...)` (deepspeed/launcher/multinode_runner.py,
add_export).
"""

from collections.abc import Mapping

_BY_ITSELF = ("MLFLOW", "PYTHON", "MV2", "UCX", "NCCL")
"""EXPORT_ENVS in deepspeed/launcher/runner.py, and those of its accelerators. MLFLOW has passwords."""
_NEEDED = ("PYTHONPATH", "PYTHONSAFEPATH", "ZPIPE_LAUNCH_ID")
"""To find zpipe, to import nothing from a working folder, and to be found by who ends the launch."""
_QUOTED = ("\\", '"', "$", "`")


def without_exports(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the runner does not export by itself."""
    return {name: value for name, value in environment.items() if not name.startswith(_BY_ITSELF)}


def exported(environment: Mapping[str, str]) -> str:
    """The file of variables that are to be exported, one a line, each value as it is after quoting."""
    return "".join(f"{name}={_quoted(environment.get(name, ''))}\n" for name in _NEEDED)


def _quoted(value: str) -> str:
    """As it must be between double quotes, and for pdsh, which replaces %h, %n and %u."""
    for sign in _QUOTED:
        value = value.replace(sign, f"\\{sign}")
    return value.replace("%", "%%").replace("\n", " ")
