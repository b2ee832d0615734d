"""`zpipe export RUN`: the trained weights as a folder for from_pretrained, verified."""

from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from zpipe.checkpoints.exportable import Exportable
    from zpipe.checkpoints.state import CheckpointState
    from zpipe.record.registry import Registry
    from zpipe.runfolder.folder import RunFolder

OVERVIEW = {
    "export RUN": "write the trained weights as a folder for from_pretrained, and verify it",
    "  --checkpoint N": "of this step, or best:METRIC (default: the final model)",
    "  --dtype bf16": "fp32, bf16 or fp16 (default: as trained)",
    "  --format safetensors": "format of the files with the weights",
    "  --register NAME": "also: a version in MLflow's model registry",
}
DTYPES = ("fp32", "bf16", "fp16")
FORMATS = ("safetensors",)
_MOST_BYTES = "5GB"


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.arguments import byte_count

    parser.add_argument("run", metavar="RUN", help="run folder, or the beginning of an MLflow run id")
    which = "step of a checkpoint, or best:METRIC (default: the final model, otherwise the newest checkpoint)"
    parser.add_argument("--checkpoint", metavar="N|best:METRIC", help=which)
    dtypes = "dtype of the weights (default: as trained); others are rounded from the fp32 master weights"
    parser.add_argument("--dtype", choices=DTYPES, help=dtypes)
    files = f"format of the files with the weights (default: {FORMATS[0]})"
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=files)
    most = f"largest file of weights, such as 500MB (default: {_MOST_BYTES})"
    parser.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        type=byte_count("--max-shard-size"),
        default=_MOST_BYTES,
        help=most,
    )
    where = "new folder (default: RUN-step-N-DTYPE in the working folder)"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=where)
    parser.add_argument(
        "--register", metavar="NAME", help="register it in MLflow's model registry under this name"
    )
    parser.add_argument("--uri", help="MLflow store (default: the store of the run)")


def run(options: "Namespace") -> int:
    """DISK_FULL if the disk has too little room. Raises Refusal for what cannot be exported."""
    from zpipe.cli.export_output import check_output
    from zpipe.cli.find_run import folder_of

    folder = folder_of(options.run, options.uri)
    # Reading a checkpoint takes a while. The default name, which has its step, is checked again below.
    check_output(options.output or _default_output(folder, "N", options.dtype or "DTYPE"), folder)
    registry = _registry(folder, options)
    source = _chosen(folder, options.checkpoint)
    trained = _trained_dtype(folder, source)
    dtype = options.dtype or trained
    output = (options.output or _default_output(folder, source.step, dtype)).absolute()
    check_output(output, folder)
    _tell("source", f"{source.folder.name}, step {source.step}: {source.reason}")
    code = _exported(source, trained, dtype, output, options.max_shard_size)
    if code == Exit.FINISHED and registry is not None:
        return _register(registry, output, source.step, dtype)
    return code


def _default_output(folder: "RunFolder", step: int | str, dtype: str) -> Path:
    return Path(f"{folder.path.name}-step-{step}-{dtype}")


def _chosen(folder: "RunFolder", wanted: str | None) -> "Exportable":
    from zpipe.checkpoints.exportable import Choice
    from zpipe.terminal.console import say

    def tell_skipped(state: "CheckpointState") -> None:
        say(f"warning: {state.path.name} is {state.state}: {'; '.join(state.damage[:3])}")

    return Choice(folder, _verified, tell_skipped).choose(wanted)


def _verified(state: "CheckpointState", run_id: str | None) -> "CheckpointState":
    from zpipe.checkpoints.state import inspect
    from zpipe.checkpoints.survey import bytes_to_verify
    from zpipe.terminal.byte_progress import byte_progress

    with byte_progress("verifying", bytes_to_verify([state])) as on_bytes:
        return inspect(state.path, run_id, on_bytes)


def _trained_dtype(folder: "RunFolder", source: "Exportable") -> str:
    """Raises Refusal for a format that no training has: the files may be of anybody."""
    from zpipe.runfolder.plan_file import read_plan_here

    found = source.manifest.dtype if source.manifest else read_plan_here(folder).engine.dtype
    if found not in DTYPES:
        reason = f"it was trained in {found}, which zpipe does not know"
        raise Refusal([Problem("RUN", str(source.folder), reason, ", ".join(DTYPES))])
    return found


def _exported(source: "Exportable", trained: str, dtype: str, output: Path, most_bytes: int) -> Exit:
    """Writes and verifies the folder; a full disk is reported."""
    from zpipe.data.machine_errors import DISK_FULL_ERRNOS
    from zpipe.terminal.byte_progress import byte_progress
    from zpipe.terminal.console import say
    from zpipe.train.export.exporting import Request, export

    try:
        export(Request(source, trained, dtype, output, most_bytes), _tell, byte_progress)
    except BrokenPipeError:  # of what is printed
        raise
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise Refusal(
                [Problem("--output", str(output), f"{error.filename}: {error.strerror}")]
            ) from error
        say(f"disk full: {error.strerror}: {error.filename or output}")
        return Exit.DISK_FULL
    _tell("exported", str(output))
    return Exit.FINISHED


def _registry(folder: "RunFolder", options: "Namespace") -> "Registry | None":
    from zpipe.record.registry import Registry

    return None if options.register is None else Registry.of(folder, options.register, options.uri)


def _register(registry: "Registry", output: Path, step: int, dtype: str) -> Exit:
    """RECORD_INCOMPLETE if the store fails: the exported folder stays."""
    from zpipe.record.errors import StoreUnreachable
    from zpipe.terminal.console import say

    try:
        uri = registry.register(output, step, dtype)
    except StoreUnreachable as error:
        say(f"exported, but not registered: {error}")
        return Exit.RECORD_INCOMPLETE
    _tell("registered", f"{uri}  (mlflow.transformers.load_model; the folder must stay where it is)")
    return Exit.FINISHED


def _tell(title: str, text: str) -> None:
    from zpipe.terminal.console import show

    show(f"{title:<10} {text}")
