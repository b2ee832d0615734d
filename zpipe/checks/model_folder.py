"""The other files of a model folder: tokenizer, generation settings, an adapter beside the model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zpipe.facts.decoder import is_size
from zpipe.facts.facts import Facts
from zpipe.facts.model import BYTES_TOKENIZER
from zpipe.facts.weights import listed, model_problem, read_json
from zpipe.paths import expanded
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, Refusal, either
from zpipe.schema.experiment import Experiment

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
LARGEST_BYTE_ID = 258
"""In ByT5's tokenizer 256 bytes follow pad, eos and unk."""
TIKTOKEN = "*.tiktoken"


def tokenizer_fits_the_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """AutoTokenizer finds nothing to load, raises for a damaged file, or gives ids that are too large."""
    folder = tokenizer_folder(facts)
    if folder is None:
        largest = LARGEST_BYTE_ID if facts.model.tokenizer == BYTES_TOKENIZER else None
        yield from _beyond_the_vocabulary(experiment, facts, largest)
        return
    if not any((folder / name).exists() for name in TOKENIZER_FILES) and not any(folder.glob(TIKTOKEN)):
        yield _tokenizer_problem(experiment, facts, "this folder has no tokenizer")
    contents = []
    for name in ("tokenizer.json", "tokenizer_config.json"):
        try:
            contents.append(_content(folder / name))
        except Refusal as refusal:
            for problem in refusal.problems:
                yield _tokenizer_problem(experiment, facts, problem.reason)
    if len(contents) == 2:
        yield from _beyond_the_vocabulary(experiment, facts, _largest_id(*contents))


def _beyond_the_vocabulary(experiment: Experiment, facts: Facts, largest: int | None) -> Iterator[Problem]:
    """Ids beyond the embedding raise IndexError on a CPU and end CUDA with an illegal memory access."""
    rows = facts.model.config.get("vocab_size")
    if largest is None or not is_size(rows) or largest < rows:
        return
    reason = f"the largest id of the tokenizer is {largest}, but the model has only {rows} ids"
    if facts.model.random_init:
        key = "model.config.vocab_size"
        yield Problem(key, rows, reason, f"at least {largest + 1} ids", either(f"{key}={largest + 1}"))
    else:
        yield _tokenizer_problem(experiment, facts, reason)


def generation_config_is_readable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers ignores a damaged file in silence, and saves the model without its settings."""
    if facts.model_folder is None:
        return
    try:
        _content(facts.model_folder / "generation_config.json")
    except Refusal as refusal:
        yield from refusal.problems


def no_adapter_beside_the_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers loads the adapter too if PEFT is installed, and ignores it in silence otherwise."""
    folder = facts.model_folder
    if folder is not None and (folder / "adapter_config.json").exists():
        reason = "adapter_config.json lies beside the model, and zpipe trains models without adapters"
        yield model_problem(str(folder), f"{reason}: merge it, or move it to a folder of its own")


def warn_about_unexpected_weights(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    names = facts.unexpected_weights
    if names:
        text = (
            f"the model does not have these weights of the files, which transformers ignores: {listed(names)}"
        )
        yield Notice(level="warning", key="model.name_or_path", text=text)


def tokenizer_folder(facts: Facts) -> Path | None:
    """None for the tokenizer of bytes, and for a hub id."""
    if facts.model.tokenizer == facts.model.name and facts.model_folder is not None:
        name = str(expanded(facts.model.name))
        return facts.model_folder if Path(name).is_dir() else None
    folder = expanded(facts.model.tokenizer)
    return folder if facts.model.tokenizer != BYTES_TOKENIZER and folder.is_dir() else None


def _tokenizer_problem(experiment: Experiment, facts: Facts, reason: str) -> Problem:
    key = "model.tokenizer"
    allowed = "a folder with the model's tokenizer, a hub id, or bytes"
    own = experiment.model.tokenizer is not None and experiment.model.name_or_path is not None
    rows = facts.model.config.get("vocab_size")
    if own:
        fix = either(f"{key}=null")
    elif is_size(rows) and rows > LARGEST_BYTE_ID:
        fix = either(f"{key}=path/to/tokenizer", f"{key}=bytes")
    else:
        fix = either(f"{key}=path/to/tokenizer")
    return Problem(key, facts.model.tokenizer, reason, allowed, fix)


def _content(file: Path) -> dict[str, Any]:
    """The JSON object of a file, {} if there is no such file. Raises Refusal."""
    return read_json(file) if file.exists() or file.is_symlink() else {}


def _largest_id(rules: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    """The largest id in tokenizer.json and tokenizer_config.json; None if they list none."""
    model = rules.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids: list[object] = []
    if isinstance(vocabulary, dict):
        ids += vocabulary.values()
    elif isinstance(vocabulary, list):
        ids.append(len(vocabulary) - 1)
    added, decoder = rules.get("added_tokens"), settings.get("added_tokens_decoder")
    ids += [each.get("id") for each in added if isinstance(each, dict)] if isinstance(added, list) else []
    ids += [int(each) for each in decoder if each.isdecimal()] if isinstance(decoder, dict) else []
    return max((each for each in ids if isinstance(each, int)), default=None)


ERRORS = (
    tokenizer_fits_the_model,
    generation_config_is_readable,
    no_adapter_beside_the_model,
)
NOTICES = (warn_about_unexpected_weights,)
