"""Compares a sweep compiled as a whole to its points composed one by one: CPU time and plans.

python -m benchmarks.sweep_compile [POINTS]
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import Composed, compose_once
from zpipe.compose.overrides import rewrite
from zpipe.compose.sweep import Point, sweep_of
from zpipe.machine.hardware import Hardware, detect
from zpipe.plans.plan import Plan

POINTS = 1000


def overrides(points: int) -> list[str]:
    """A sweep of three stages x bucket sizes x learning rates, with at least this many points."""
    side = int((points / 3) ** 0.5) + 1
    buckets = ",".join(f"{index}e7" for index in range(1, side + 1))
    rates = ",".join(f"{index}e-5" for index in range(1, side + 1))
    return rewrite(["stage=1,2,3", f"stage.reduce_bucket_size={buckets}", f"train.learning_rate={rates}"])


def as_a_sweep(typed: list[str], points: int, hardware: Hardware) -> Iterator[tuple[Point, Plan]]:
    with sweep_of(typed) as sweep:
        for point in islice(sweep.points, points):
            yield point, plan_of(sweep.compose(point), point, hardware)


def one_by_one(points: Iterable[Point], hardware: Hardware) -> Iterator[Plan]:
    for point in points:
        yield plan_of(compose_once(list(point.overrides)), point, hardware)


def plan_of(composed: Composed, point: Point, hardware: Hardware) -> Plan:
    return compile_plan(composed.experiment, point.folder, point.command, hardware, composed.provenance)


def as_bytes(plan: Plan) -> bytes:
    return json.dumps(plan.model_dump(mode="json"), indent=2).encode()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else POINTS
    hardware, typed = detect(), overrides(count)
    compose_once([])  # Imports and validators, which both ways need once.
    start = time.process_time()
    compiled = list(as_a_sweep(typed, count, hardware))
    sweep_seconds = time.process_time() - start
    start = time.process_time()
    singles = list(one_by_one((point for point, _ in compiled), hardware))
    single_seconds = time.process_time() - start
    equal = sum(as_bytes(a) == as_bytes(b) for (_, a), b in zip(compiled, singles, strict=True))
    print(f"points                     {len(compiled):>9,}")
    print(f"as a sweep                 {sweep_seconds:>9.2f} s of CPU time")
    print(f"one by one                 {single_seconds:>9.2f} s of CPU time")
    print(f"one by one / as a sweep    {single_seconds / sweep_seconds:>9.0f}")
    print(f"plans equal byte for byte  {equal:>9,}, {len(as_bytes(singles[0])):,} bytes in the first")
    sys.exit(equal != len(compiled))


if __name__ == "__main__":
    main()
