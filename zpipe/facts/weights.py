"""The weight files of a model folder: which ones transformers loads, and what their headers say."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zpipe.data.sniffing import is_lfs_pointer
from zpipe.facts.shapes import HEAD, Shapes
from zpipe.problems import Problem, Refusal, either

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PARTITIONED_BY = ("_forward_module.", "module.", "_orig_mod.", "base_model.model.", "_fsdp_wrapped_module.")
"""Prefixes of wrappers: the weights of the wrapped model are below them."""


def model_problem(value: str, reason: str) -> Problem:
    """A problem of the model folder or hub id."""
    allowed = "a folder that save_pretrained wrote, or a hub id such as Qwen/Qwen2.5-0.5B"
    fix = either("model=tiny model.name_or_path=null", "model.name_or_path=path/to/model")
    return Problem("model.name_or_path", value, reason, allowed, fix)


def weight_shapes(folder: Path, may_be_missing: bool = False) -> Shapes | None:
    """The shape of each tensor by name; None for pickled weights. Raises Refusal for damaged or missing ones.

    transformers loads model.safetensors, else the files of its index, else pickled weights. Other files, such
    as consolidated.safetensors, do not count (modeling_utils.py, _get_resolved_checkpoint_files).
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if _exists(single):
        return _headers(folder, [single])
    if _exists(index):
        return _indexed(folder, index)
    if any(_exists(folder / name) for name in PICKLED):
        return None
    if may_be_missing:
        return None
    raise Refusal([model_problem(str(folder), _without_weights(folder))])


def unexpected(saved: Shapes, expected: Shapes) -> tuple[str, ...]:
    """Tensors of the files that the model does not have, if its parameters are known.

    transformers ignores them. Buffers that older versions saved and a copy of tied weights are left out.
    """
    known = {name.removeprefix("model.") for name in expected} | {HEAD}
    names = (name for name in saved if name.removeprefix("model.") not in known) if expected else ()
    return tuple(name for name in names if not name.endswith(".inv_freq"))


def shape_problem(folder: Path, shapes: Shapes, expected: Mapping[str, tuple[int, ...]]) -> Problem | None:
    """What is wrong with the weights of a model that needs `expected`, if anything.

    Names count with and without `model.` in front, as for transformers.
    """
    if any(math.prod(shape) == 0 for shape in shapes.values()):
        reason = "its weights are empty: ZeRO-3 saved them without gathering; use zero_to_fp32.py"
        return model_problem(str(folder), reason)
    bare = {name.removeprefix("model."): shape for name, shape in shapes.items()}
    wanted = {name.removeprefix("model."): shape for name, shape in expected.items()}
    missing = [name for name in wanted if name not in bare]
    if missing:
        return model_problem(str(folder), _missing(missing, wanted, shapes))
    wrong = [name for name, shape in wanted.items() if bare[name] != shape]
    if wrong:
        name = wrong[0]
        reason = f"{name} is {shape_text(bare[name])} in the file, {shape_text(wanted[name])} by config.json"
        return model_problem(str(folder), f"{reason}{and_others(len(wrong) - 1)}")
    return None


def _missing(missing: list[str], wanted: Mapping[str, tuple[int, ...]], shapes: Shapes) -> str:
    wrapped = next((name for name in shapes if name.startswith(PARTITIONED_BY)), None)
    if len(missing) < len(wanted):
        return f"the weights lack {missing[0]}{and_others(len(missing) - 1)}, which would start at random"
    hint = f"; the file has {wrapped}: save the model itself, not its wrapper" if wrapped else ""
    first = wrapped or next(iter(shapes), "nothing")
    return (
        f"none of the {len(wanted)} weights of the model is in the folder{hint or f'; the file has {first}'}"
    )


NAMED = 3
"""Weights to name in a message; more are only counted."""


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return f"{', '.join(names[:NAMED])}{and_others(len(names) - NAMED)}"


def and_others(count: int) -> str:
    """What follows the names in a message that leaves out `count` of them."""
    return f" and {count} more" if count > 0 else ""


def shape_text(shape: Iterable[int]) -> str:
    """A shape such as 320 x 64."""
    return " x ".join(map(str, shape)) or "a scalar"


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def without_config(folder: Path) -> str:
    """Why a folder without config.json is not a model folder."""
    return _another_format(folder) or "this folder has no config.json"


def _another_format(folder: Path) -> str | None:
    if _exists(folder / "adapter_config.json"):
        return "this is a PEFT adapter, not a model: merge it into its base model first"
    if any(folder.glob("*.gguf")):
        return "GGUF weights are quantized and cannot be trained; use the original model"
    if any(folder.glob("global_step*")) or _exists(folder / "latest"):
        return "this is a DeepSpeed checkpoint: convert it with its zero_to_fp32.py first"
    return None


def _without_weights(folder: Path) -> str:
    return (
        _another_format(folder)
        or "this folder has no weights: neither model.safetensors nor pytorch_model.bin, nor an index of them"
    )


def _indexed(folder: Path, index: Path) -> Shapes:
    content = read_json(index)
    names = content.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise Refusal([model_problem(str(folder), f"{index.name} has no weight_map of names to files")])
    files = sorted(set(names.values()))
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise Refusal(
            [model_problem(str(folder), f"{index.name} names a file outside the folder: {outside[0]}")]
        )
    missing = [name for name in files if not _exists(folder / name)]
    if missing:
        reason = (
            f"{index.name} names {missing[0]}{and_others(len(missing) - 1)}, which the folder does not have"
        )
        raise Refusal([model_problem(str(folder), reason)])
    return _headers(folder, [folder / name for name in files])


def _headers(folder: Path, files: list[Path]) -> Shapes:
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    for path in files:
        check_regular(path)
        try:
            with safe_open(path, framework="np") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
        except (SafetensorError, OSError) as error:
            reason = f"cannot read {path.name}: {error}; it may be an incomplete download"
            if is_lfs_pointer(path):
                reason = f"{path.name} is a git-lfs pointer, not the weights: git lfs pull"
            raise Refusal([model_problem(str(folder), reason)]) from None
    return shapes


def check_regular(path: Path) -> None:
    """Raises Refusal for a pipe, a device, a folder or a link to nothing in place of a file."""
    if not path.is_file():
        raise Refusal([model_problem(str(path.parent), f"{path.name} is not a regular file")])


def read_json(path: Path) -> dict[str, object]:
    """A JSON object of a model folder. Raises Refusal for anything else."""
    check_regular(path)
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        reason = f"{path.name} is not JSON: {str(error)[:200]}"
        raise Refusal([model_problem(str(path.parent), reason)]) from None
    except OSError as error:
        reason = f"{path.name} cannot be read: {error.strerror}"
        raise Refusal([model_problem(str(path.parent), reason)]) from None
    if not isinstance(content, dict):
        raise Refusal([model_problem(str(path.parent), f"{path.name} is not a mapping of names to values")])
    return content


MAX_JSON_BYTES = 256 * 2**20
"""Tokenizers take up to some 40 MB. A larger file does not belong to a model."""
