"""Keeps DeepSpeed from importing what the run does not use: it would take seconds in every worker."""

import sys
from contextlib import suppress

from zpipe.plans.plan import Plan

MUON = "MuonWithAuxAdam"
_MODULES = ("deepspeed.runtime.zero.muon.original_muon", "deepspeed.runtime.zero.muon.muon_optimizer")


def leave_out_mlflow() -> None:
    """DeepSpeed's autotuner imports MLflow where it can. The parent records the run."""
    sys.modules["mlflow"] = None  # type: ignore[assignment]


def import_muon_for(plan: Plan) -> None:
    """Imports Muon without torch's compiler, unless the run uses Muon.

    DeepSpeed imports Muon for every optimizer, to compare classes, and torch's compiler with it
    (runtime/zero/utils.py, is_zero_supported_optimizer).
    """
    if plan.engine.optimizer == MUON:
        for name in _MODULES:
            sys.modules.pop(name, None)  # an earlier run in this process may have imported it
        return
    from deepspeed.runtime import compiler

    compile_kernels = compiler.compile
    compiler.compile = lambda *_, **__: lambda function: function
    try:
        with suppress(ImportError):
            import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_kernels
