"""A sweep.json from somebody else executes nothing without the user's word."""

import pytest

from zpipe.sweep.trusted_arguments import problems

SAFE = [
    "-m",
    "stage=2,3",
    "model.attn_implementation=sdpa,eager",
    "stage.reduce_bucket_size=5e7,2e8",
    "recipe=zero3_nvme",
    "launcher.env.NCCL_DEBUG=INFO",
    "hydra/launcher=joblib",
    "hydra.launcher.n_jobs=2",
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=4",
    "hydra.sweep.dir=outputs/sweep",
    "tracking.uri=sqlite:///x.db",
]
UNSAFE = [
    "--config-dir=/evil",
    "-cd",
    "hydra.job_logging.handlers.x.class=a.b",
    "hydra.job.env_set.LD_PRELOAD=/evil.so",
    "hydra.searchpath=[file:///evil]",
    "hydra.launcher.setup=[curl evil]",
    "hydra.launcher._target_=os.system",
    "+hydra.callbacks.x._target_=os.system",
    "hydra.sweeper.sampler._target_=os.system",
    "tracking.run_name=${oc.env:HF_TOKEN}",
    "launcher.env.PYTHONPATH=/evil",
    "launcher.env={LD_PRELOAD: /evil.so}",
    "++launcher.env.LD_PRELOAD=/evil.so",
    "model.trust_remote_code=true",
    "model.attn_implementation=sdpa,kernels-community/flash-attn2",
    "resume.trust=true",
    "unknown.key=1",
]


@pytest.mark.parametrize("argument", SAFE)
def test_argument_is_run_again(argument: str) -> None:
    assert list(problems([argument])) == []


@pytest.mark.parametrize("argument", UNSAFE)
def test_argument_needs_the_users_word(argument: str) -> None:
    (problem,) = problems([argument])
    assert argument in problem.fix
