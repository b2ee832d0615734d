"""Small engines of DeepSpeed on several ranks, without a run: what they save, and what they load again."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import preloaded

ADAM = "AdamW"


@dataclass(frozen=True)
class Job:
    """An engine that loads or trains, and saves into `folder`."""

    folder: str
    stage: int
    precision: str = "fp32"
    optimizer: str = ADAM
    load: str | None = None
    """The folder of a checkpoint of any shape; without it, two steps are trained."""
    offload: bool = False
    config: dict[str, Any] = field(default_factory=dict)


def run_jobs(folder: Path, ranks: int, jobs: Sequence[Job]) -> None:
    """Runs the jobs one after the other on this many ranks. Raises AssertionError if a rank fails."""
    with tempfile.TemporaryDirectory() as scratch:
        started = [
            preloaded.context().Process(
                target=_rank, args=(folder, Path(scratch, "store"), rank, ranks, jobs)
            )
            for rank in range(ranks)
        ]
        for each in started:
            each.start()
        for each in started:
            each.join()
    codes = [each.exitcode for each in started]
    assert codes == [0] * ranks, f"the ranks ended with {codes}"


def _rank(folder: Path, store: Path, rank: int, ranks: int, jobs: Sequence[Job]) -> None:
    import deepspeed
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    from zpipe.runfolder.event_file import Reporter
    from zpipe.train.operators import disable_shm_comm, ensure_operators
    from zpipe.train.safe_loading import restrict_unpickling

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    if any(job.offload for job in jobs):
        ensure_operators(("cpu_adam",), Reporter(None))
    disable_shm_comm()
    restrict_unpickling()
    dist.init_process_group("gloo", store=FileStore(str(store), ranks), rank=rank, world_size=ranks)
    deepspeed.init_distributed(verbose=False)
    torch.manual_seed(1)
    for job in jobs:
        _do(folder, job)
    dist.barrier()


def _do(folder: Path, job: Job) -> None:
    from zpipe.train.reshaping import load_reshaped

    engine = _engine(job)
    if job.load is None:
        _train(engine, 2)
    else:
        counted: list[tuple[int, int]] = []
        load_reshaped(engine, folder / job.load, lambda done, of: counted.append((done, of)))
        assert counted[-1][0] == counted[-1][1] == len(counted)
    engine.save_checkpoint(str(folder / job.folder), tag="step")
    _train(engine, 1)
    engine.destroy()


def _engine(job: Job) -> Any:
    import deepspeed

    config = _config(job)
    if job.stage == 3:
        with deepspeed.zero.Init(config_dict_or_path=config):
            model = _model()
    else:
        model = _model()
    decayed = [each for name, each in model.named_parameters() if "bias" not in name]
    others = [each for name, each in model.named_parameters() if "bias" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=groups, config=config)
    return engine


def _config(job: Job) -> dict[str, Any]:
    zero: dict[str, Any] = {
        "stage": job.stage,
        "stage3_param_persistence_threshold": 10,
        "sub_group_size": 60,
    }
    if job.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    params = {"lr": 0.01, "torch_adam": not job.offload} if job.optimizer == ADAM else {"lr": 0.01}
    if job.optimizer in ("SGD", "RMSprop"):
        params["momentum"] = 0.9
    return {
        "train_micro_batch_size_per_gpu": 1,
        "optimizer": {"type": job.optimizer, "params": params},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 4}},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        **({"bf16": {"enabled": True}} if job.precision == "bf16" else {}),
        **job.config,
    }


def _model() -> Any:
    """Sizes that no number of ranks divides, tied weights, a parameter of one element, and a buffer."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(13, 7)
            self.inner = nn.Linear(7, 7)
            self.bias_of_one = nn.Parameter(torch.ones(1))
            self.head = nn.Linear(7, 13, bias=False)
            self.head.weight = self.embedding.weight
            self.seen: torch.Tensor
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, tokens: Any) -> Any:
            hidden = self.embedding(tokens)
            self.seen += 1
            return self.head(torch.tanh(self.inner(hidden)) * self.bias_of_one)

    return Net()


def _train(engine: Any, steps: int) -> None:
    import torch
    import torch.distributed as dist

    for step in range(steps):
        tokens = (torch.arange(5) * 3 + step + dist.get_rank()) % 13
        loss = torch.nn.functional.cross_entropy(engine(tokens).float(), tokens)
        engine.backward(loss)
        engine.step()
