"""Compiles overrides to a plan for a given machine, without a run."""

from pathlib import Path

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import Composed, compose_once, composing
from zpipe.compose.overrides import rewrite
from zpipe.compose.sweep import Base, Composer, Point
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.schema.experiment import Experiment

GIB = 1024**3
CPU = Hardware(gpus=(), cores=2, memory=24 * GIB)
H200 = Gpu(name="NVIDIA H200", memory=141 * GIB, compute_capability=(9, 0))
A100 = Gpu(name="NVIDIA A100-SXM4-80GB", memory=80 * GIB, compute_capability=(8, 0))
V100 = Gpu(name="Tesla V100", memory=32 * GIB, compute_capability=(7, 0))


def gpus(*each: Gpu) -> Hardware:
    return Hardware(gpus=each, cores=16, memory=128 * GIB)


def plan_of(*overrides: str, hardware: Hardware = CPU, run_dir: Path = Path("/runs/one")) -> Plan:
    composed = _composed(rewrite(overrides), run_dir)
    return compile_plan(composed.experiment, run_dir, list(overrides), hardware, composed.provenance)


_BASES: dict[tuple[str, ...], Base] = {}


def _composed(overrides: list[str], run_dir: Path) -> Composed:
    """Composes as a sweep does, with the same result as separately but ten times faster once cached."""
    if any(override.startswith("recipe=") for override in overrides):
        return compose_once(overrides)  # recipes of different tests may have the same name
    with composing() as loader:
        return Composer(loader, _BASES).compose(Point(0, run_dir, tuple(overrides)))


def composed_of(*overrides: str) -> Composed:
    return _composed(rewrite(overrides), Path("/runs/one"))


def experiment_of(*overrides: str) -> Experiment:
    return composed_of(*overrides).experiment


def problems_of(*overrides: str, hardware: Hardware = CPU) -> list[Problem]:
    """The problems of a refused command line; empty if it is accepted."""
    try:
        plan_of(*overrides, hardware=hardware)
    except Refusal as refusal:
        return list(refusal.problems)
    return []
