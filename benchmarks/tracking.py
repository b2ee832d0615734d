"""Measures the cost of tracking in the training process: zpipe's callback and transformers' MLflowCallback.

    python -m benchmarks.tracking [STEPS [LOGGING_STEPS]]        on the CPU, with a small model

Both callbacks get the events of one Trainer, in alternating blocks of steps. The first block has only zpipe's
callback and times it. The second block has both and times MLflow's, whose background thread would slow down
zpipe's callback. The cost of a step is the time of all calls of a callback in the step, plus its share of
logging. MLflow's store is sqlite.
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
"""Steps per block."""
SETTLING_STEPS = 10
"""Steps at the start of a block that are not counted: MLflow's thread still writes the previous block."""
Times = dict[str, list[float]]


def timed(kind: type, times: Times, with_both: bool) -> type:
    """A subclass of the callback that measures every call in its blocks, in seconds."""

    def wrapped(name: str) -> Callable[..., Any]:
        original = getattr(kind, name)

        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            step = arguments[1].global_step
            is_both = (step // BLOCK) % 2 == 1
            if is_both != with_both and kind.__name__ == "MLflowCallback":
                return None
            start = time.perf_counter()
            result = original(self, *arguments, **options)
            if is_both == with_both and step % BLOCK >= SETTLING_STEPS:
                times[name].append(time.perf_counter() - start)
            return result

        return call

    return type(kind.__name__, (kind,), {name: wrapped(name) for name in (*PER_STEP, "on_log")})


def train(steps: int, logging_steps: int, folder: Path) -> dict[str, Times]:
    """Runs a training with both callbacks; returns the seconds of each of their calls."""
    from transformers.integrations import MLflowCallback

    import zpipe.train.trainers.causal_lm as trainer_module
    from tests.support.plans import begin_attempt
    from zpipe.compile.compiler import compile_plan
    from zpipe.compose.compose import compose_once
    from zpipe.compose.overrides import rewrite
    from zpipe.launchers.inprocess import InProcess
    from zpipe.machine.hardware import detect
    from zpipe.runfolder.plan_file import write_plan
    from zpipe.train.callbacks import EventCallback
    from zpipe.train.trainers.resumable import ResumableTrainer

    times: dict[str, Times] = {"zpipe": defaultdict(list), "MLflowCallback": defaultdict(list)}

    class Both(ResumableTrainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.add_callback(timed(MLflowCallback, times["MLflowCallback"], with_both=True))

    ours = timed(EventCallback, times["zpipe"], with_both=False)
    vars(trainer_module).update(EventCallback=ours, ResumableTrainer=Both)
    overrides = [*OVERRIDES, f"train.max_steps={steps}", f"train.logging_steps={logging_steps}"]
    composed = compose_once(rewrite(overrides))
    plan = compile_plan(composed.experiment, folder, overrides, detect())
    write_plan(plan)
    begin_attempt(folder)
    code = InProcess().run_here(plan)
    assert code == 0, f"the training ended with {code}"
    return times


def cost(times: Times, logging_steps: int) -> tuple[float, float]:
    """The median microseconds of one step and of one call of on_log."""
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
    print(f"\n{steps} steps, logging every {logging_steps}; median microseconds")
    print("| callback | one step, with its share of logging | one on_log |\n|---|---:|---:|")
    for name, of_callback in times.items():
        step, log = cost(of_callback, logging_steps)
        print(f"| {name} | {step:,.0f} | {log:,.0f} |")


if __name__ == "__main__":
    main()
