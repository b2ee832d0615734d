"""Prepares the training data once and shares it with all ranks.

Rank 0 prepares the data before torch.distributed is initialized, so that a long preparation cannot time out a
collective. The other ranks wait for a marker file in the run folder.
"""

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zpipe.plan.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.plan_file import folder_of
from zpipe.schema.data import Data
from zpipe.train.formats import COLUMNS, choose_layout, documents
from zpipe.train.packing import write_packed
from zpipe.train.ranks import Rank
from zpipe.train.reading import read_files, read_hub
from zpipe.train.sources import local_source
from zpipe.train.tokens import CHAT_TEMPLATE, Encoder

CACHE_FORMAT = 2
"""Increment this whenever the same input is packed differently, so that old cache files are not used."""

ROWS_PER_BATCH = 256
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Sequences:
    """Packed sequences, `datasets.Dataset`s with `input_ids` and `labels` of `data.max_length` tokens."""

    train: Any
    held_out: Any | None


def load_sequences(plan: Plan, tokenizer: Any, rank: Rank, reporter: Reporter) -> Sequences:
    """Prepares the packed data or finds it in the cache, and splits it. Raises Refusal for unusable data."""
    marker = _marker(plan, rank)
    if rank.is_main:
        path, layout = prepare(plan.experiment.data, tokenizer, reporter)
        if layout == "messages" and not tokenizer.chat_template:
            tokenizer.chat_template = CHAT_TEMPLATE
            reporter.notice(
                "the tokenizer has no chat template; zpipe uses ChatML and saves it with the model"
            )
        write_json(marker, {"path": str(path)})
    else:
        path = _wait_for(marker)
    import datasets

    packed = datasets.Dataset.from_file(str(path)).with_format("numpy")
    sequences = split(packed, plan.experiment.data, plan.experiment.train.seed)
    held_out = len(sequences.held_out) if sequences.held_out is not None else 0
    reporter.phase("data", f"{len(sequences.train)} training sequences, {held_out} held out")
    return sequences


def remove_marker(plan: Plan, rank: Rank) -> None:
    """Removes the marker file. Call this on rank 0 after a collective, when every rank has read it."""
    _marker(plan, rank).unlink(missing_ok=True)


def prepare(data: Data, tokenizer: Any, reporter: Reporter) -> tuple[Path, str]:
    """The Arrow file of the packed sequences, and the layout of the examples (a key of COLUMNS).

    The file is in the cache of `datasets`. It is reused until the data, the tokenizer or a setting changes.
    """
    import datasets

    datasets.disable_progress_bars()
    encoder = Encoder.from_tokenizer(tokenizer)
    source = local_source(data)
    rows: Any = None if source else read_hub(data)
    stamp = source.stamp() if source else rows._fingerprint
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "zpipe"
    path = cache / f"{fingerprint(data, encoder, stamp)}.arrow"
    facts = path.with_suffix(".json")
    # The facts are written last, so if they exist, the sequences are complete.
    if facts.exists() and path.exists():
        reporter.phase("data", "packed sequences found in the cache")
        return path, json.loads(facts.read_text(encoding="utf-8"))["layout"]
    rows = read_files(source, data) if source else rows
    if data.max_samples is not None:
        rows = rows.select(range(min(data.max_samples, len(rows))))
    layout = choose_layout(data, rows.column_names)
    cache.mkdir(parents=True, exist_ok=True)
    batches = rows.select_columns(list(COLUMNS[layout])).iter(ROWS_PER_BATCH)
    write_packed(path, documents(batches, layout, data, encoder), data)
    write_json(facts, {"layout": layout, "data": data.model_dump(mode="json")})
    return path, layout


def fingerprint(data: Data, encoder: Encoder, stamp: Any) -> str:
    """A digest of everything that affects the packed ids."""
    settings = data.model_dump(exclude={"eval_fraction"})
    parts = [CACHE_FORMAT, settings, stamp, encoder.identity()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def split(packed: Any, data: Data, seed: int) -> Sequences:
    """Holds out a fraction of the sequences for evaluation, chosen by the seed."""
    if data.eval_fraction == 0:
        return Sequences(packed, None)
    count = len(packed)
    held_out = max(1, round(data.eval_fraction * count))
    if held_out >= count:
        raise Refusal(
            [
                Problem(
                    key="data.eval_fraction",
                    value=data.eval_fraction,
                    reason=f"leaves no sequence to train on; the data has {count}",
                    allowed="0, or a fraction that leaves at least one sequence to train on",
                    fix="data.eval_fraction=0" if count == 1 else f"data.eval_fraction={1 / count:.3g}",
                )
            ]
        )
    order = np.random.default_rng(seed).permutation(count)
    return Sequences(
        train=packed.select(np.sort(order[held_out:])), held_out=packed.select(np.sort(order[:held_out]))
    )


def _marker(plan: Plan, rank: Rank) -> Path:
    return folder_of(plan).attempt.data_marker(rank.launch_id)


def _wait_for(marker: Path) -> Path:
    """Waits without a timeout: if rank 0 fails, torchrun ends this process."""
    launcher = os.getppid()
    while not marker.exists():
        if os.getppid() != launcher:
            raise RuntimeError("the launcher exited while rank 0 was preparing the data")
        time.sleep(POLL_SECONDS)
    return Path(json.loads(marker.read_text(encoding="utf-8"))["path"])
