"""The folders that the hostile cases damage: a real run, a real sweep, a model folder, data and a store."""

import json
import shutil
from pathlib import Path

from tests.support import preloaded
from tests.support.process import Run, zpipe

SMALL = (
    "model.config.hidden_size=32",
    "model.config.intermediate_size=64",
    "model.config.num_hidden_layers=1",
    "model.config.num_attention_heads=2",
    "data.max_length=32",
    "batch.per_device_train_batch_size=2",
    "train.max_steps=2",
    "train.warmup_steps=0",
    "train.logging_steps=1",
    "launcher.device=cpu",
)


def prepare_bases(scratch: Path) -> dict[str, Path]:
    """Trains twice for two steps, once as a sweep. Raises RuntimeError if that fails."""
    project = scratch / "bases" / "project"
    project.mkdir(parents=True)
    (project / "text.jsonl").write_text(
        "".join(json.dumps({"text": "a line " * 8}) + "\n" for _ in range(40))
    )
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    (project / "chat.jsonl").write_text((json.dumps(chat) + "\n") * 20)
    (project / "table.csv").write_text("text\n" + "some words in a cell\n" * 20)
    common = (*SMALL, f"data.path={project / 'text.jsonl'}", "tracking.uri=sqlite:///m.db")
    _check(zpipe(project, *common))
    _check(preloaded.sweep(project, *common, "train.seed=1,2", "checkpoint=none"))
    shutil.copytree(project / "run" / "model", project / "model")
    shutil.rmtree(project / "outputs", ignore_errors=True)
    return {"project": project}


def _check(run: Run) -> None:
    if run.exit_code != 0:
        raise RuntimeError(run.explain())
