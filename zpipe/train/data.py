"""The training data: packed sequences of one length, prepared once and shared by all ranks.

Rank 0 prepares before torch.distributed exists, so that however long it takes, no collective can
time out; the other ranks wait for a marker file in the run folder.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zpipe.plan.plan import Plan
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.plan_file import folder_of
from zpipe.schema.data import Data
from zpipe.train.formats import COLUMNS, IGNORED, Document, choose_layout, documents
from zpipe.train.ranks import Rank
from zpipe.train.sources import local_source, problem, read, read_hub
from zpipe.train.tokens import CHAT_TEMPLATE, Encoder, Ids

CACHE_FORMAT = 2
"""Raised whenever the same input would be packed otherwise, so that no old file is taken for new."""

ROWS_AT_A_TIME = 256
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Sequences:
    """Packed sequences with `input_ids` and `labels`, each exactly `data.max_length` long."""

    train: Any
    held_out: Any | None


def load_sequences(plan: Plan, tokenizer: Any, rank: Rank, reporter: Reporter) -> Sequences:
    """Prepares or finds the packed data and splits it; raises Refusal for data that cannot be used."""
    marker = _marker(plan, rank)
    if rank.leads:
        path, layout = prepare(plan.experiment.data, tokenizer, reporter)
        if layout == "messages" and not tokenizer.chat_template:
            tokenizer.chat_template = CHAT_TEMPLATE
            reporter.notice("the tokenizer has no chat template: ChatML is used, and saved with the model")
        write_json(marker, {"path": str(path)})
    else:
        path = _wait_for(marker)
    import datasets

    packed = datasets.Dataset.from_file(str(path)).with_format("numpy")
    sequences = split(packed, plan.experiment.data, plan.experiment.train.seed)
    held_out = len(sequences.held_out) if sequences.held_out is not None else 0
    reporter.phase("data", f"{len(sequences.train)} sequences to train on, {held_out} held out")
    return sequences


def forget_marker(plan: Plan, rank: Rank) -> None:
    """Removes the marker. Call it on rank 0 after a collective: every rank has read it then."""
    _marker(plan, rank).unlink(missing_ok=True)


def prepare(data: Data, tokenizer: Any, reporter: Reporter) -> tuple[Path, str]:
    """The Arrow file of the packed sequences, and which of COLUMNS the examples had.

    It lies in the cache of `datasets`, and is taken from there if neither the data, the tokenizer
    nor the settings changed.
    """
    import datasets

    datasets.disable_progress_bars()
    encoder = Encoder.of(tokenizer)
    source = local_source(data)
    rows: Any = None if source else read_hub(data)
    stamp = source.stamp() if source else rows._fingerprint
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "zpipe"
    path = cache / f"{fingerprint(data, encoder, stamp)}.arrow"
    facts = path.with_suffix(".json")
    # The facts are written last: where they are, the sequences are whole.
    if facts.exists() and path.exists():
        reporter.phase("data", "packed before, taken from the cache")
        return path, json.loads(facts.read_text())["layout"]
    rows = read(source, data) if source else rows
    if data.max_samples is not None:
        rows = rows.select(range(min(data.max_samples, len(rows))))
    layout = choose_layout(data, rows.column_names)
    cache.mkdir(parents=True, exist_ok=True)
    batches = rows.select_columns(list(COLUMNS[layout])).iter(ROWS_AT_A_TIME)
    write_packed(path, documents(batches, layout, data, encoder), data)
    write_json(facts, {"layout": layout, "data": data.model_dump(mode="json")})
    return path, layout


def fingerprint(data: Data, encoder: Encoder, stamp: Any) -> str:
    """Names everything that the packed ids depend on."""
    settings = data.model_dump(exclude={"eval_fraction"})
    parts = [CACHE_FORMAT, settings, stamp, encoder.identity()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def write_packed(path: Path, batches: Iterable[list[Document]], data: Data) -> None:
    """Writes the packed sequences, whole or not at all; raises Refusal when none could be made."""
    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]
    from datasets.arrow_writer import ArrowWriter

    column = datasets.Sequence(datasets.Value("int32"), length=data.max_length)
    features = datasets.Features({"input_ids": column, "labels": column})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    packer = Packer(data.max_length)
    try:
        with ArrowWriter(path=str(temporary), features=features) as writer:
            for ids, labels in packer.pack(batches):
                rows = {"input_ids": ids, "labels": labels}
                arrays = [
                    pa.FixedSizeListArray.from_arrays(pa.array(rows[n].ravel()), data.max_length)
                    for n in rows
                ]
                writer.write_table(pa.table(arrays, schema=features.arrow_schema))
            writer.finalize() if packer.sequences else None
        packer.check(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Packer:
    """Joins documents end to end and cuts them into sequences of one length."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.tokens = 0
        self.learned = 0
        self.sequences = 0

    def pack(self, batches: Iterable[list[Document]]) -> Iterator[tuple[Ids, Ids]]:
        """Yields (ids, labels) of shape (n, length). What remains at the end is dropped."""
        rest = Document(np.empty(0, np.int32), np.empty(0, np.int32))
        for batch in batches:
            ids = np.concatenate([rest.ids, *(document.ids for document in batch)])
            labels = np.concatenate([rest.labels, *(document.labels for document in batch)])
            self.tokens += len(ids) - len(rest.ids)
            self.learned += int((labels[len(rest.labels) :] != IGNORED).sum())
            cut = len(ids) // self.length * self.length
            rest = Document(ids[cut:], labels[cut:])
            yield from self._worthwhile(ids[:cut], labels[:cut])

    def _worthwhile(self, ids: Ids, labels: Ids) -> Iterator[tuple[Ids, Ids]]:
        """Leaves out sequences of which nothing can be learned: their loss would be 0/0."""
        rows = labels.reshape(-1, self.length)
        # Models shift the labels: the first one of a sequence is never predicted.
        kept = (rows[:, 1:] != IGNORED).any(axis=1)
        if kept.any():
            self.sequences += int(kept.sum())
            yield ids.reshape(-1, self.length)[kept], rows[kept]

    def check(self, data: Data) -> None:
        """Raises Refusal when there is not one sequence."""
        given = data.path or data.source
        if self.sequences:
            return
        if self.tokens == 0:
            raise problem(given, "it holds no text")
        if self.learned == 0:
            raise problem(
                given,
                "no trainable token: there is no completion and no assistant message, only prompts",
                fix="data.completion_only=false",
            )
        if self.tokens >= self.length or self.tokens < 8:
            raise problem(
                given, f"too little to learn from: {self.tokens} tokens, {self.learned} of them trained on"
            )
        raise problem(
            data.max_length,
            f"all of the data is {self.tokens} tokens, not enough for one sequence",
            key="data.max_length",
            allowed=f"8 to {self.tokens}",
            fix=f"data.max_length={self.tokens // 8 * 8}",
        )


def split(packed: Any, data: Data, seed: int) -> Sequences:
    """Holds out a share of the sequences, the same ones for the same seed."""
    if data.eval_fraction == 0:
        return Sequences(packed, None)
    count = len(packed)
    held_out = max(1, round(data.eval_fraction * count))
    if held_out >= count:
        raise problem(
            data.eval_fraction,
            f"of {count} sequences nothing would be left to train on",
            key="data.eval_fraction",
            fix="data.eval_fraction=0" if count == 1 else f"data.eval_fraction={1 / count:.3g}",
        )
    order = np.random.default_rng(seed).permutation(count)
    return Sequences(
        train=packed.select(np.sort(order[held_out:])), held_out=packed.select(np.sort(order[:held_out]))
    )


def _marker(plan: Plan, rank: Rank) -> Path:
    return folder_of(plan).attempt.data_marker(rank.launch_id)


def _wait_for(marker: Path) -> Path:
    """Waits without limit: torchrun ends this process when rank 0 fails."""
    launcher = os.getppid()
    while not marker.exists():
        if os.getppid() != launcher:
            raise RuntimeError("the launcher is gone while rank 0 was preparing the data")
        time.sleep(POLL_SECONDS)
    return Path(json.loads(marker.read_text())["path"])
