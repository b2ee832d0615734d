"""Checks how a CUDA out-of-memory error is reported: exit code, MLflow, result.json and post-mortem.

    python -m benchmarks.cuda_oom [OVERRIDES]

A model of 8 billion parameters in fp32 without ZeRO needs 128 GB before the first activation, and its first
batch half as much again, which exceeds the memory of an H200. Use overrides on a larger GPU. Prints the
post-mortem and exits with 1 if a check fails.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from zpipe.runfolder.folder import RunFolder

OVERRIDES = (
    "model=llama3_8b",
    "stage=0",
    "precision=fp32",
    "optimizer.params.torch_adam=true",
    "data.max_length=4096",
    "batch.per_device_train_batch_size=16",
    "train.max_steps=2",
    "checkpoint=none",
    "launcher.nproc_per_node=1",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        cwd, run_dir = Path(folder), Path(folder) / "run"
        argv = [sys.executable, "-m", "zpipe", *OVERRIDES, f"hydra.run.dir={run_dir}", *sys.argv[1:]]
        run = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
        print(run.stdout[-3000:], run.stderr[-3000:], sep="\n")
        postmortem = RunFolder(run_dir).attempt.postmortem
        text = postmortem.read_text(encoding="utf-8") if postmortem.is_file() else ""
        print(text)
        checks = {
            "exit code 10": run.returncode == 10,
            "ending gpu_out_of_memory": _result(run_dir).get("ending") == "gpu_out_of_memory",
            "no traceback on the terminal": "Traceback" not in run.stderr,
            "memory curve of the GPU": "GPU 0" in text,
            "advice in the post-mortem": "train.gradient_checkpointing=true" in text or "offload=" in text,
            **_recorded(cwd, run_dir),
        }
    for name, passed in checks.items():
        print(f"{'ok' if passed else 'FAILED':<6} {name}")
    return 0 if all(checks.values()) else 1


def _result(run_dir: Path) -> dict[str, object]:
    file = RunFolder(run_dir).attempt.result
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _recorded(cwd: Path, run_dir: Path) -> dict[str, bool]:
    """Checks of the run in MLflow's store."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{cwd / 'outputs' / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments, f'tags.`zpipe.run_dir` = "{run_dir}"')
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    return {
        "MLflow status FAILED": run.info.status == "FAILED",
        "MLflow tag zpipe.ending": run.data.tags.get("zpipe.ending") == "gpu_out_of_memory",
        "MLflow tag zpipe.exit_code": run.data.tags.get("zpipe.exit_code") == "10",
        "post-mortem in MLflow's artifacts": "postmortem.md" in artifacts,
    }


if __name__ == "__main__":
    sys.exit(main())
