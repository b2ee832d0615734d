"""Names of other tools are answered with overrides that zpipe accepts and that change the plan."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from tests.support.options import experiment_of
from tests.support.planning import H200, gpus
from zpipe.compile.compiler import compile_plan
from zpipe.compose.names import OPEN_MAPPINGS, check_key, check_option, known_keys
from zpipe.compose.overrides import rewrite
from zpipe.compose.translate import translated_key
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import Provenance
from zpipe.problems import Problem, Refusal, nearest
from zpipe.resources import config_groups
from zpipe.schema.synonyms import OPTIONS, RENAMED, SWITCHED, UNSUPPORTED, UNSUPPORTED_OPTIONS

TWO_GPUS = gpus(H200, H200)
DEFAULT_OPTIONS = {
    **{"stage": "2", "offload": "none", "precision": "auto", "optimizer": "adamw", "scheduler": "linear"},
    **{"tracking": "mlflow", "checkpoint": "default"},
}
VALUES = {
    "batch.train_batch_size": "16",
    "checkpoint.save_total_limit": "3",
    "data.completion_only": "false",
    "data.eval_fraction": "0.1",
    "data.max_length": "512",
    "data.path": "train.jsonl",
    "hydra.run.dir": "out",
    "launcher.hostfile": "hosts.txt",
    "launcher.nproc_per_node": "1",
    "model.name_or_path": "org/model",
    "model.tokenizer": "org/tokenizer",
    "offload.nvme_path": "swap",
    "optimizer": "Adam",
    "resume.checkpoint": "outputs/run/checkpoint-40",
    "scheduler": "Cosine",
    "stage": "3",
    "tracking.experiment": "mine",
    "tracking.run_name": "mine",
    "tracking.uri": "sqlite:///mine.db",
    "train.adam_beta1": "0.8",
    "train.adam_beta2": "0.95",
    "train.eval_strategy": "epoch",
    "train.label_smoothing_factor": "0.1",
}
"""A value for each key that does not take 0.5 or 3."""


@pytest.fixture(autouse=True)
def in_folder_with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.txt").write_text("host-a slots=2\n")
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')


ALREADY = {
    *("precision=auto", "offload=none", "activation_checkpointing=none", "compile=none", "zeropp=none"),
    *("data.packing=wrapped", "data.completion_only=true", "tracking=mlflow", "launcher=torchrun"),
    *("launcher.device=auto", "optimizer=adamw", "train.use_liger_kernel=false", "checkpoint=default"),
    *("profiler=none", "stage=2", "resume.checkpoint=auto"),
}
"""Suggestions that are the default; a user is told that nothing need be set."""


def problem_of(override: str) -> Problem:
    with pytest.raises(Refusal) as refused:
        rewrite([override])
    (problem,) = refused.value.problems
    return problem


def suggestions() -> Iterator[tuple[str, str]]:
    """Each name of the tables with a value, and what a user is told to try."""
    for name, template in RENAMED.items():
        if template == "zpipe import {}":
            continue
        target = next(part.partition("=")[0] for part in template.split() if part.endswith("={}"))
        fractional = target.rpartition(".")[2] in (
            "learning_rate",
            "weight_decay",
            "adam_epsilon",
            "warmup_steps",
        )
        value = VALUES.get(target, "0.5" if fractional else "3")
        problem = translated_key(name, value)
        assert problem is not None, name
        yield f"{name}={value}", problem.fix
    for name, meanings in SWITCHED.items():
        for value in meanings:
            problem = translated_key(name, value)
            assert problem is not None, name
            yield f"{name}={value}", problem.fix
    for group, options in OPTIONS.items():
        for option in options:
            problem = check_option(group, option)
            if problem is not None:
                yield f"{group}={option}", problem.fix


def compiled(overrides: str) -> Plan:
    """The plan of overrides that Hydra's grammar accepts, composed without Hydra: that takes a tenth."""
    choices: dict[str, str] = {}
    values: dict[str, Any] = {}
    for text in rewrite(shlex.split(overrides)):
        override = OverridesParser.create().parse_override(text)
        value = override.value()
        plain = value.text if isinstance(value, QuotedString) else value
        if override.key_or_group in config_groups():
            choices[override.key_or_group] = str(plain)
        else:
            values[override.key_or_group] = plain
    experiment = experiment_of({**DEFAULT_OPTIONS, **choices}, values)
    return compile_plan(experiment, Path("/runs/one"), [], TWO_GPUS, Provenance())


def acts(overrides: str, default: Plan) -> bool:
    """Whether the overrides compile to another plan, or set what the default is already."""
    plan = compiled(overrides)
    return plan != default or overrides in ALREADY


def test_every_suggestion_of_the_table_is_accepted_and_acts() -> None:
    default = compiled("")
    wrong: dict[str, str] = {}
    seen: dict[str, str] = {}
    for typed, fix in suggestions():
        if not fix:
            wrong[typed] = "no suggestion"
        elif fix not in seen and not fix.startswith(("zpipe import", "hydra.")):
            try:
                seen[fix] = "" if acts(fix, default) else "has no effect"
            except Refusal as refusal:
                seen[fix] = str(refusal)
        if seen.get(fix):
            wrong[typed] = f"{fix}: {seen[fix]}"
    assert not wrong, "\n".join(f"{typed}: {why}" for typed, why in wrong.items())
    assert len(seen) > 60


@pytest.mark.parametrize("typed", [*UNSUPPORTED, "lora.r", "model.lora_alpha", "peft.lora.rank"])
def test_what_zpipe_cannot_do_is_said_without_a_suggestion(typed: str) -> None:
    problem = problem_of(f"{typed}=8")
    assert problem.fix == ""
    assert problem.reason.startswith("zpipe ") or "cannot" in problem.reason or "removed" in problem.reason


@pytest.mark.parametrize(
    ("group", "option"), [(group, each) for group, names in UNSUPPORTED_OPTIONS.items() for each in names]
)
def test_option_that_zpipe_cannot_offer_says_why(group: str, option: str) -> None:
    problem = problem_of(f"{group}={option}")
    assert problem.fix == OPTIONS.get(group, {}).get(option, "")
    assert problem.reason != "no such option"


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ("train.lr=1e-4", "train.learning_rate=1e-4"),
        ("lr=1e-4,1e-5", "train.learning_rate=1e-4,1e-5"),
        ("launcher.gpus=8", "launcher.nproc_per_node=8"),
        ("launcher.nnodes=2", "launcher.nodes=2"),
        ("tracking.tracking_uri=sqlite:///a.db", "tracking.uri=sqlite:///a.db"),
        ("precision.fp16.enabled=true", "precision=fp16"),
        ("model=Qwen/Qwen2.5-0.5B", "model.name_or_path=Qwen/Qwen2.5-0.5B"),
        ("data=x.jsonl", "data.path=x.jsonl"),
        ("deepspeed_config=ds.json", "zpipe import ds.json"),
        ("optimizer=AdamW", "optimizer=adamw"),
        ("scheduler=WarmupDecayLR", "scheduler=warmup_decay"),
        ("lr_scheduler_type=cosine", "scheduler=cosine"),
        ("resume_from_checkpoint=run/checkpoint-4", "resume.checkpoint=run/checkpoint-4"),
        ("resume.chekpoint=never", "resume.checkpoint=never"),
        ("report_to=wandb", ""),
        ("lr=abc", ""),
        ("packing=false", "data.packing=none"),
        ("seed=7", "train.seed=7"),
        ("stage.bucket_size=5e8", "stage.reduce_bucket_size=5e8"),
        ("tracking.colour=red", ""),
        ("launcher.wibble=1", ""),
        ("wibble=1", ""),
        ("stge=9", "stage=0"),
        ("train.learning_rte=abc", "train.learning_rate=5e-05"),
        ("max_stesp=9", "train.max_steps=9"),
    ],
)
def test_suggestion_fits_what_was_typed(typed: str, fix: str) -> None:
    assert problem_of(typed).fix.split(" or ")[0] == fix


def test_mapping_with_free_names_is_never_the_home_of_an_unknown_key() -> None:
    for key in known_keys():
        problem = check_key(f"{key.rpartition('.')[0] or key}.zzzz_unknown", "1")
        home = problem.fix if problem is not None else ""
        assert not home.startswith(tuple(f"{mapping}." for mapping in OPEN_MAPPINGS)), home


@pytest.mark.parametrize("typed", ["_comment", "packing", "lr", "zzz"])
def test_name_that_is_not_near_is_no_suggestion(typed: str) -> None:
    assert nearest(typed, ["comet", "tracking", "train", "stage"]) == []
