"""Runs many plans in one session: libraries are imported once, and each rank of a point is a fork.

    python -m benchmarks.points_server POINTS.json OUT.jsonl [--only TEXT] [--seconds N]

POINTS.json is a list of {"name", "overrides"}; `defaults` in its first entry without a name precede the
overrides of all points. Each point is compiled by zpipe and run by zpipe's own worker, in a process with a
CUDA context of its own, so that nothing is left of the point before. A line of OUT.jsonl has what the worker
measured, and the peaks of each phase of a step.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # a fork cannot use CUDA if its parent has

from benchmarks.kernel_times import profile_engine
from benchmarks.phases import record_phases

ROOT = Path("outputs") / "benchmarks" / "points"
GIB = 2**30


def import_libraries() -> None:
    """Everything that a worker imports, without initializing CUDA."""
    import datasets  # noqa: F401
    import deepspeed  # noqa: F401
    import torch
    import transformers  # noqa: F401
    from transformers import Trainer  # noqa: F401

    from zpipe.train import data, model, operators, tokens  # noqa: F401
    from zpipe.train.light_imports import leave_out_mlflow
    from zpipe.train.trainers import causal_lm  # noqa: F401

    leave_out_mlflow()
    if torch.cuda.is_initialized():
        raise SystemExit("CUDA is initialized, and a fork cannot use it")


def plan_point(overrides: list[str], folder: Path) -> Any:
    from zpipe.cli.plan_single import compile_composed
    from zpipe.compose.compose import compose_once
    from zpipe.compose.overrides import rewrite
    from zpipe.machine.hardware import detect
    from zpipe.runfolder.attempt_start import start_by_hand, write_start
    from zpipe.runfolder.folder import RunFolder
    from zpipe.runfolder.plan_file import write_plan

    shutil.rmtree(folder, ignore_errors=True)
    overrides = [*overrides, f"hydra.run.dir={folder}"]
    plan = compile_composed(compose_once(rewrite(overrides)), overrides, detect())
    write_plan(plan)
    attempt = RunFolder(folder.absolute()).attempt
    attempt.logs.mkdir(parents=True, exist_ok=True)
    write_start(attempt, start_by_hand(RunFolder(folder.absolute())))
    return plan


def start_rank(plan: Any, folder: Path, index: int) -> int:
    """Forks a rank; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(folder / f"rank{index}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        size = plan.launch.world_size
        os.environ.update(plan.launch.env)
        os.environ.update(RANK=str(index), LOCAL_RANK=str(index), WORLD_SIZE=str(size))
        os.environ.update(LOCAL_WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
        os.environ["ZPIPE_LAUNCH_ID"] = "points"
        import torch

        torch.set_num_threads(int(plan.launch.env.get("OMP_NUM_THREADS", "1")))
        with recorded(folder, index):
            from zpipe.train.worker import run

            code = run(folder.absolute())
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def recorded(folder: Path, index: int) -> AbstractContextManager[None]:
    """The profiler takes time, so it excludes the peaks of the phases."""
    if os.environ.get("POINTS_PROFILE"):
        return profile_engine(folder / f"rank{index}.trace.json.gz")
    return record_phases(folder / f"rank{index}.phases.json")


def wait_for(pids: list[int], seconds: float) -> list[int]:
    """Exit codes; ranks that take longer, or whose sibling failed, are killed."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    if codes[pid]:
                        deadline = min(deadline, time.monotonic() + 3)
        if time.monotonic() > deadline:
            for pid in pids:
                if pid not in codes:
                    os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + 60
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def measured(folder: Path, ranks: int) -> dict[str, Any]:
    from zpipe.runfolder.folder import RunFolder

    events = RunFolder(folder.absolute()).attempt.events
    lines = [json.loads(line) for line in events.open(encoding="utf-8")] if events.is_file() else []
    summary: dict[str, Any] = {}
    for line in lines:
        if line["event"] == "summary":
            summary = line["values"]
    losses = [
        line["values"]["loss"] for line in lines if line["event"] == "metrics" and "loss" in line["values"]
    ]
    phases = []
    for index in range(ranks):
        file = folder / f"rank{index}.phases.json"
        phases.append(json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {})
    problems = [line for line in lines if line["event"] in ("failed", "refused")]
    return {"summary": summary, "losses": losses, "ranks": phases, "problems": problems}


def run_point(name: str, overrides: list[str], seconds: float) -> dict[str, Any]:
    folder = ROOT / name.replace(" ", "_").replace("/", "-").replace(",", "")
    started = time.monotonic()
    row: dict[str, Any] = {"name": name, "overrides": overrides}
    try:
        plan = plan_point(overrides, folder)
    except Exception as error:
        problems = [f"{each.key}={each.value}: {each.reason}" for each in getattr(error, "problems", [])]
        return {**row, "codes": [], "refused": problems or [repr(error)]}
    ranks = plan.launch.world_size
    codes = wait_for([start_rank(plan, folder, index) for index in range(ranks)], seconds)
    row |= {"world_size": ranks, "codes": codes, **measured(folder, ranks)}
    row["seconds"] = round(time.monotonic() - started, 1)
    if any(codes):
        log = (folder / "rank0.log").read_text(encoding="utf-8", errors="replace")
        row["log"] = log[-1500:]
    return row


def shown(row: dict[str, Any]) -> str:
    if row.get("refused"):
        return f"{row['name']:<44} refused {row['refused']}"
    summary, ranks = row["summary"], row["ranks"]
    peak = max((rank.get("peak_allocated", 0) for rank in ranks), default=0) / GIB
    reserved = max((rank.get("peak_reserved", 0) for rank in ranks), default=0) / GIB
    host = summary.get("memory/host_peak_gib", 0)
    speed = summary.get("tokens_per_sec", 0)
    line = f"{row['name']:<44} {row['codes']} {peak:7.2f} {reserved:7.2f} GiB  host {host:6.2f}"
    tail = "" if not any(row["codes"]) else " | " + " ".join(row["log"].split()[-30:])
    return f"{line}  {speed:9,.0f} tok/s  {row['seconds']:5.1f} s{tail}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("points")
    parser.add_argument("out")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=500, help="no point is begun after this time")
    parser.add_argument("--point-seconds", type=float, default=90)
    options = parser.parse_args()
    began = time.monotonic()
    listed = json.loads(Path(options.points).read_text(encoding="utf-8"))
    defaults = [each for entry in listed if "name" not in entry for each in entry["defaults"]]
    os.environ.setdefault("HF_DATASETS_CACHE", str((ROOT / "cache").absolute()))
    import_libraries()
    print(f"libraries imported in {time.monotonic() - began:.0f} s", flush=True)
    with Path(options.out).open("a", encoding="utf-8") as out:
        for entry in listed:
            if "name" not in entry or options.only not in entry["name"]:
                continue
            left = options.seconds - (time.monotonic() - began)
            if left < 5:
                print(f"{entry['name']}: not begun, the time is over")
                continue
            os.environ["POINTS_TRACE"] = "1" if entry.get("trace") else ""
            os.environ["POINTS_PROFILE"] = "1" if entry.get("profile") else ""
            row = run_point(entry["name"], [*defaults, *entry["overrides"]], min(left, options.point_seconds))
            out.write(json.dumps(row) + "\n")
            out.flush()
            print(shown(row), flush=True)


if __name__ == "__main__":
    main()
