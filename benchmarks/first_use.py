"""Counts failures and complete runs when many processes use a new sqlite store at once.

    python -m benchmarks.first_use [ROUNDS [PROCESSES]]

Each process records its own finished run folder. The processes are forked from one that has imported MLflow,
and start recording together at a barrier. Otherwise they would reach the store at different times, because
their imports finish at different times.
"""

import multiprocessing
import shutil
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - before the fork

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from zpipe.record.client import open_client
from zpipe.record.record_run import record_run
from zpipe.record.store import default_uri

ROOT = Path("outputs") / "benchmarks" / "first_use"
STEPS = 50


def make_run(folder: Path) -> Path:
    """Creates the run folder of a finished training."""
    plan = make_plan(folder)
    writer = EventWriter(folder)
    writer.write("phase", name="model", detail="")
    for step in range(STEPS):
        writer.write("metrics", step=step, values={"loss": 5.0 - step / STEPS, "grad_norm": 1.0})
    writer.write("phase", name="done", detail="")
    writer.close()
    return Path(plan.run_dir)


def record(folder: Path, base: Path, barrier: Barrier) -> None:
    barrier.wait()
    sys.exit(0 if record_run(folder, base).ok else 1)


def one_round(base: Path, processes: int) -> tuple[int, int, float]:
    """The number of failed processes, the number of complete runs, and the seconds until all have ended."""
    folders = [make_run(base / f"run-{number}") for number in range(processes)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    start = time.monotonic()
    workers = [context.Process(target=record, args=(folder, base, barrier)) for folder in folders]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    seconds = time.monotonic() - start
    return sum(process.exitcode != 0 for process in workers), complete(base, folders), seconds


def complete(base: Path, folders: list[Path]) -> int:
    """The number of finished runs with every metric value and the artifacts; there is one run per folder."""
    client = open_client(default_uri(base))
    experiment = client.get_experiment_by_name("zpipe")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["zpipe.run_dir"] for run in runs}) == len(runs) == len(folders)
    return sum(
        run.info.status == "FINISHED"
        and len(client.get_metric_history(run.info.run_id, "loss")) == STEPS
        and {"plan.json", "events.jsonl"} <= {each.path for each in client.list_artifacts(run.info.run_id)}
        for run in runs
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    processes = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    shutil.rmtree(ROOT, ignore_errors=True)
    print("| round | failures | complete runs | seconds |\n|---:|---:|---:|---:|")
    for number in range(1, rounds + 1):
        failures, finished, seconds = one_round((ROOT / str(number)).absolute(), processes)
        print(f"| {number} | {failures} | {finished} of {processes} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
