"""What tracking costs the training process: zpipe's callback beside transformers' MLflowCallback, in one run.

    python -m benchmarks.tracking [STEPS [LOGGING_STEPS]]        on the CPU, with a small model

Both hear the same Trainer, in turn: a block of steps with zpipe's alone, then a block with both, in which
MLflow's is timed: it writes from a thread of its own, which takes time from all other Python of the process.
A step costs what all calls of a callback took in it, plus its share of logging; MLflow's store is sqlite.
"""

import os
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path("outputs") / "benchmarks" / "tracking"
PER_STEP = ("on_step_begin", "on_substep_end", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end")
OVERRIDES = (
    "model.config.hidden_size=64",
    "model.config.intermediate_size=128",
    "model.config.num_hidden_layers=2",
    "model.config.num_attention_heads=4",
    "data.max_length=64",
    "batch.per_device_train_batch_size=1",
    "train.warmup_steps=0",
    "checkpoint=none",
    "tracking=none",
    "launcher=inprocess",
    "launcher.device=cpu",
)
BLOCK = 50
"""Steps of a block."""
SETTLING = 10
"""Steps at the start of a block that are not counted: MLflow's thread works off the block before."""
Times = dict[str, list[float]]


def timed(kind: type, times: Times, with_both: bool) -> type:
    """The callback class, with every call in its blocks timed in seconds."""

    def around(name: str) -> Callable[..., Any]:
        original = getattr(kind, name)

        def call(self: Any, *arguments: Any, **more: Any) -> Any:
            step = arguments[1].global_step
            is_both = (step // BLOCK) % 2 == 1
            if is_both != with_both and kind.__name__ == "MLflowCallback":
                return None
            began = time.perf_counter()
            result = original(self, *arguments, **more)
            if is_both == with_both and step % BLOCK >= SETTLING:
                times[name].append(time.perf_counter() - began)
            return result

        return call

    return type(kind.__name__, (kind,), {name: around(name) for name in (*PER_STEP, "on_log")})


def train(steps: int, logging_steps: int, folder: Path) -> dict[str, Times]:
    """One run with both callbacks; what each of their calls took."""
    from transformers import Trainer
    from transformers.integrations import MLflowCallback

    import zpipe.train.trainers.causal_lm as trainer_module
    from zpipe.compile.compiler import compile_plan
    from zpipe.compose.compose import compose_once
    from zpipe.compose.overrides import rewrite
    from zpipe.launchers.inprocess import InProcess
    from zpipe.machine.hardware import detect
    from zpipe.runfolder.plan_file import write_plan
    from zpipe.train.callbacks import EventCallback

    times: dict[str, Times] = {"zpipe": defaultdict(list), "MLflowCallback": defaultdict(list)}

    class Both(Trainer):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.add_callback(timed(MLflowCallback, times["MLflowCallback"], with_both=True))

    ours = timed(EventCallback, times["zpipe"], with_both=False)
    vars(trainer_module).update(EventCallback=ours, Trainer=Both)
    overrides = [*OVERRIDES, f"train.max_steps={steps}", f"train.logging_steps={logging_steps}"]
    composed = compose_once(rewrite(overrides))
    plan = compile_plan(composed.experiment, folder, overrides, detect())
    write_plan(plan)
    code = InProcess().run_here(plan)
    assert code == 0, f"the training ended with {code}"
    return times


def cost(times: Times, logging_steps: int) -> tuple[float, float]:
    """Microseconds of one step at the median, and of one call of on_log at the median."""
    per_step = sum(statistics.median(times[name]) for name in PER_STEP if times[name])
    log = statistics.median(times["on_log"])
    return 1e6 * (per_step + log / logging_steps), 1e6 * log


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    logging_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{(ROOT / 'mlflow.db').absolute()}"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from zpipe.record.store import prepare_store

    prepare_store(os.environ["MLFLOW_TRACKING_URI"])
    times = train(steps, logging_steps, (ROOT / "run").absolute())
    print(f"\n{steps} steps, logging every {logging_steps}; microseconds at the median")
    print("| callback | a step, with its share of logging | one on_log |\n|---|---:|---:|")
    for name, found in times.items():
        step, log = cost(found, logging_steps)
        print(f"| {name} | {step:,.0f} | {log:,.0f} |")


if __name__ == "__main__":
    main()
