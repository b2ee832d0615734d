"""Prepares the training data once and shares it with all ranks.

Rank 0 prepares the data before torch.distributed is initialized, so that a long preparation cannot time out a
collective. The other ranks wait for a marker file in the run folder. A node that does not share the cache of
node 0 prepares its own.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from zpipe.data.layouts import choose_layout
from zpipe.data.refusals import data_path_refusal
from zpipe.data.row import Row
from zpipe.data.rows import read_rows
from zpipe.data.sources import local_source
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.pace import marker_seconds
from zpipe.runfolder.plan_file import folder_of
from zpipe.schema.data import Data
from zpipe.train.formats import Documents
from zpipe.train.hub import hub_rows, load_hub
from zpipe.train.ranks import Rank
from zpipe.train.sequence_file import write_packed
from zpipe.train.steps import check_counts
from zpipe.train.tokens import CHAT_TEMPLATE, Encoder

CACHE_FORMAT = 3
"""Increment this whenever the same input is packed differently, so that old cache files are not used."""


@dataclass(frozen=True)
class Prepared:
    """The Arrow file of the packed sequences, and what is known about it."""

    path: Path
    has_messages: bool
    """Whether a chat template rendered it."""
    notices: list[str]
    mean_tokens: float
    """Tokens per sequence."""


@dataclass(frozen=True)
class Sequences:
    """Packed sequences: `datasets.Dataset`s with `input_ids` and `labels`, up to `data.max_length` tokens."""

    train: Any
    held_out: Any | None
    mean_tokens: float
    """Tokens per sequence."""


def load_sequences(plan: Plan, tokenizer: Any, rank: Rank, reporter: Reporter) -> Sequences:
    """Prepares the packed data or finds it in the cache, and splits it. Raises Refusal for unusable data."""
    attempt = folder_of(plan).attempt
    if rank.is_main:
        _prepare_for(attempt.data_marker(rank.launch_id), plan, tokenizer, reporter)
    shared = _wait_for(attempt.data_marker(rank.launch_id), rank)
    if not Path(shared["path"]).exists():  # in the cache of node 0 alone
        own = attempt.data_marker(rank.launch_id, rank.node)
        if rank.local_index == 0:
            _prepare_for(own, plan, tokenizer, reporter)
        shared = _same_data(_wait_for(own, rank), shared, plan)
    import datasets

    packed = datasets.Dataset.from_file(shared["path"]).with_format("numpy")
    train, held_out = split(packed, plan.experiment.data, plan.experiment.train.seed)
    count = len(held_out) if held_out is not None else 0
    check_counts(plan, len(train), count)
    reporter.phase("data", f"{len(train)} training sequences, {count} held out")
    return Sequences(train, held_out, shared["mean_tokens"])


def _prepare_for(marker: Path, plan: Plan, tokenizer: Any, reporter: Reporter) -> None:
    """Prepares the data and tells the other ranks where it is."""
    prepared = prepare(plan.experiment.data, tokenizer, reporter)
    for notice in prepared.notices:
        reporter.notice(notice)
    if prepared.has_messages and not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
        reporter.notice("the tokenizer has no chat template; zpipe uses ChatML and saves it with the model")
    facts = {"mean_tokens": prepared.mean_tokens, "bytes": prepared.path.stat().st_size}
    write_json(marker, {"path": str(prepared.path), **facts})


def _same_data(own: dict[str, Any], first: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """What this node has prepared. Raises Refusal if node 0 has prepared something else."""
    if all(own[name] == first[name] for name in ("mean_tokens", "bytes")):
        return own
    reason = "the data of this node is not that of node 0"
    raise Refusal([Problem("data.path", plan.experiment.data.path or "", reason, "the same files on each")])


def remove_markers(plan: Plan, rank: Rank) -> None:
    """Removes the marker files. Call this on rank 0 after a collective, when every rank has read its own."""
    attempt = folder_of(plan).attempt
    for node in range(plan.launch.nodes):
        attempt.data_marker(rank.launch_id, node).unlink(missing_ok=True)


def prepare(data: Data, tokenizer: Any, reporter: Reporter) -> Prepared:
    """The packed sequences, in the cache of `datasets`.

    The file is reused until the data, the tokenizer or a setting changes.
    """
    import datasets

    datasets.disable_progress_bars()
    encoder = Encoder.from_tokenizer(tokenizer)
    source = local_source(data)
    hub: Any = None if source else load_hub(data)
    stamp = source.stamp() if source else hub._fingerprint
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "zpipe"
    path = cache / f"{fingerprint(data, encoder, stamp)}.arrow"
    facts = path.with_suffix(".json")
    # The facts are written last, so if they exist, the sequences are complete.
    if facts.exists() and path.exists():
        reporter.phase("data", "packed sequences found in the cache")
        known = json.loads(facts.read_text(encoding="utf-8"))
        return Prepared(path, known["has_messages"], known["notices"], known["mean_tokens"])
    rows = read_rows(source) if source else hub_rows(hub, data)
    layout, rows = _with_layout(islice(rows, data.max_samples), data)
    documents = Documents(layout, data, encoder)
    cache.mkdir(parents=True, exist_ok=True)
    packer = write_packed(path, documents.read(rows), data)
    notices = [*documents.notices(), *packer.notices()]
    mean_tokens = packer.kept_tokens / packer.sequences
    known = {"has_messages": documents.has_messages, "notices": notices, "mean_tokens": mean_tokens}
    write_json(facts, {**known, "data": data.model_dump(mode="json")})
    return Prepared(path, documents.has_messages, notices, mean_tokens)


def _with_layout(rows: Iterator[Row], data: Data) -> tuple[str, Iterator[Row]]:
    """The layout that the first row shows, and all rows."""
    first = next(rows, None)
    if first is None:
        raise data_path_refusal(data.path, "it contains no examples")
    return choose_layout(data, first.columns), chain([first], rows)


def fingerprint(data: Data, encoder: Encoder, stamp: Any) -> str:
    """A digest of everything that affects the packed ids."""
    settings = data.model_dump(exclude={"eval_fraction"})
    parts = [CACHE_FORMAT, settings, stamp, encoder.identity()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def split(packed: Any, data: Data, seed: int) -> tuple[Any, Any | None]:
    """The sequences for training, and a fraction for evaluation, chosen by the seed; None for 0."""
    if data.eval_fraction == 0:
        return packed, None
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
    return packed.select(np.sort(order[held_out:])), packed.select(np.sort(order[:held_out]))


def _wait_for(marker: Path, rank: Rank) -> dict[str, Any]:
    """Waits without a timeout: if rank 0 fails, torchrun ends this process."""
    launcher, seconds = os.getppid(), marker_seconds(rank.world_size)
    while not marker.exists():
        if os.getppid() != launcher:
            raise RuntimeError("the launcher exited while rank 0 was preparing the data")
        time.sleep(seconds)
    found: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
    return found
