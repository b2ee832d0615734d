"""For every ending and many plans, the advice compiles and changes something; the post-mortem lists it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.support.planning import CPU, GIB, H200, V100, gpus, plan_of
from tests.support.plans import begin_attempt
from zpipe.compile.compiler import compile_plan
from zpipe.compose.names import check_key
from zpipe.diagnose.advice import advise, command_with
from zpipe.diagnose.curve import draw
from zpipe.diagnose.descriptions import MEANING
from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.diagnose.postmortem import write_postmortem
from zpipe.diagnose.remedies import REMEDIES, Situation
from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.hardware import Hardware
from zpipe.machine.libaio import Libaio
from zpipe.machine.samples import Sample
from zpipe.plans.plan import Plan
from zpipe.resources import config_groups
from zpipe.runfolder.outcome import EXIT_OF, Ending, Outcome
from zpipe.runfolder.progress import RunProgress
from zpipe.schema.changed import changed

ONE, FOUR, OLD = (
    replace(machine, memory=1024 * GIB) for machine in (gpus(H200), gpus(H200, H200, H200, H200), gpus(V100))
)
RUN = Path("/runs/one")

PLANS: dict[str, tuple[list[str], Hardware]] = {
    "default on a CPU": ([], CPU),
    "two CPU ranks, all in memory": (
        ["stage=0", "precision=fp32", "launcher.nproc_per_node=2", "train.dataloader_num_workers=2"],
        CPU,
    ),
    "swapping on a CPU": (["stage=3", "offload=nvme", "offload.offload_param.buffer_count=12"], CPU),
    "one GPU in fp32": (["model=llama3_3b", "stage=0", "precision=fp32", "data.max_length=4096"], ONE),
    "one GPU, everything on it": (
        ["recipe=llama3_1b_zero2", "stage.round_robin_gradients=true", "stage.reduce_bucket_size=5e7"],
        ONE,
    ),
    "four GPUs in bf16": (
        ["model=llama3_8b", "stage=1", "precision=bf16", "batch.per_device_train_batch_size=6"],
        FOUR,
    ),
    "a given batch size, and Muon": (
        ["batch.train_batch_size=64", "batch.per_device_train_batch_size=4", "optimizer=muon"],
        FOUR,
    ),
    "ZeRO++ and DeepSpeed's checkpointing": (
        [
            "model=llama3_8b",
            "stage=3",
            "zeropp=full",
            "stage.zero_hpz_partition_size=4",
            "activation_checkpointing=deepspeed",
        ],
        FOUR,
    ),
    "host memory": (["model=llama3_8b", "stage=3", "offload=cpu", "precision=bf16"], FOUR),
    "optimizer in host memory": (
        ["model=llama3_8b", "stage=2", "offload=cpu_optimizer", "batch.per_device_eval_batch_size=4"],
        ONE,
    ),
    "fp16 on an old GPU": (
        [
            "model=llama3_1b",
            "precision=fp16",
            "precision.fp16.initial_scale_power=24",
            "train.max_grad_norm=0",
        ],
        OLD,
    ),
    "fp16 with a fixed scale": (["precision=fp16", "precision.fp16.loss_scale=65536", "stage=2"], ONE),
    "all remedies applied": (
        [
            "model=llama3_1b",
            "stage=3",
            "offload=nvme",
            "precision=bf16",
            "offload.pin_memory=false",
            "train.gradient_checkpointing=true",
            "batch.per_device_train_batch_size=1",
        ],
        ONE,
    ),
}


@pytest.fixture(autouse=True)
def libaio_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVMe offload is advised where its operator can be built."""
    monkeypatch.setattr("zpipe.machine.probes.find_libaio", lambda environ: Libaio((), ()))


@cache
def plan_called(name: str) -> Plan:
    overrides, hardware = PLANS[name]
    return plan_of(*overrides, hardware=hardware)


def situations(plan: Plan) -> list[Situation]:
    return [
        Situation(plan, phase="train", step=7, rank_exit=RankExit(0, -9, 0.0)),
        Situation(plan, phase="evaluate", step=7, rank_exit=RankExit(0, -11, 0.0)),
        Situation(plan, phase="model"),
    ]


def advice_for(name: str, ending: Ending) -> dict[tuple[str, ...], str]:
    plan, hardware = plan_called(name), PLANS[name][1]
    return {
        suggestion.overrides: suggestion.why
        for situation in situations(plan)
        for suggestion in advise(ending, situation, hardware)
    }


@pytest.mark.parametrize("name", PLANS)
def test_all_advice_compiles_and_changes_the_plan(name: str) -> None:
    plan, hardware = plan_called(name), PLANS[name][1]
    every = {overrides for ending in REMEDIES for overrides in advice_for(name, ending)}
    assert every
    for overrides in every:
        for override in overrides:
            assert changed(plan.experiment, [override]) != plan.experiment, f"{override} is set already"
        typed = plan_of(*command_with(plan, overrides), hardware=hardware)
        assert typed.experiment != plan.experiment, overrides
        checked = compile_plan(changed(plan.experiment, overrides), RUN, [], hardware)
        assert typed.ds_config == checked.ds_config, overrides
        assert typed.training_arguments == checked.training_arguments, overrides


def test_remedies_use_existing_keys_and_options() -> None:
    options = config_groups()
    for name in PLANS:
        for situation in situations(plan_called(name)):
            for remedies in REMEDIES.values():
                for override in (each for proposal in remedies(situation) for each in proposal.overrides):
                    key, _, value = override.partition("=")
                    known = value in options[key] if key in options else check_key(key, value) is None
                    assert known, override


def first_of(name: str, ending: Ending, phase: str = "train") -> list[str]:
    plan, hardware = plan_called(name), PLANS[name][1]
    given = advise(ending, Situation(plan, phase, step=7), hardware)
    return [" ".join(suggestion.overrides) for suggestion in given]


def test_remedies_for_gpu_memory_follow_the_guide() -> None:
    assert first_of("four GPUs in bf16", "gpu_out_of_memory") == [
        "batch.per_device_train_batch_size=3 batch.gradient_accumulation_steps=2",
        "train.gradient_checkpointing=true",
        "kernels.liger=true",
        "stage=2",
        "stage=3",
        "stage=2 offload=cpu_optimizer",
        "stage=3 offload=cpu",
        "stage=3 offload=nvme",
        "data.max_length=512",
    ]


def test_a_stage_alone_is_not_advised_on_one_gpu() -> None:
    advice = first_of("one GPU in fp32", "gpu_out_of_memory")
    assert "precision=auto" in advice
    assert not any(each in ("stage=2", "stage=3") for each in advice)


def test_no_smaller_batch_is_advised_before_the_first_batch() -> None:
    advice = first_of("one GPU, everything on it", "gpu_out_of_memory", phase="model")
    assert advice[0] == "offload=cpu_optimizer"


def test_keys_without_effect_at_the_new_stage_are_reset() -> None:
    advice = first_of("one GPU, everything on it", "gpu_out_of_memory")
    assert "stage=3 offload=cpu stage.round_robin_gradients=null" in advice


def test_remedies_for_host_memory_swap_to_files_and_pin_less() -> None:
    advice = first_of("host memory", "host_out_of_memory")
    assert advice[:2] == ["offload=nvme", "offload.pin_memory=false"]
    swapping = first_of("swapping on a CPU", "host_out_of_memory")
    assert "offload.offload_param.buffer_count=null" in swapping


def test_bf16_is_not_advised_on_a_gpu_without_it() -> None:
    for ending in ("loss_scale_stuck", "nonfinite_loss"):
        assert not any("precision=bf16" in each for each in first_of("fp16 on an old GPU", ending))
    assert first_of("fp16 with a fixed scale", "loss_scale_stuck")[0].startswith("precision=bf16")


def test_settings_already_in_effect_are_not_advised() -> None:
    advice = first_of("all remedies applied", "gpu_out_of_memory") + first_of(
        "all remedies applied", "host_out_of_memory"
    )
    for key in ("gradient_checkpointing", "pin_memory", "offload=nvme", "per_device_train_batch_size"):
        assert not any(key in line for line in advice), advice


def test_every_ending_with_a_post_mortem_has_remedies_and_a_meaning() -> None:
    assert set(REMEDIES) == set(MEANING) == set(EXIT_OF) - {"finished", "refused", "submitted"}


def test_advice_replaces_overrides_in_the_command() -> None:
    plan = plan_called("one GPU in fp32").model_copy(
        update={"command": ["stage=0", "++a.b=1", "hydra.run.dir=/x", "precision=fp32"]}
    )
    assert command_with(plan, ("stage=2", "precision=auto")) == ["++a.b=1", "stage=2", "precision=auto"]


def curve_of(*shares: float) -> list[str]:
    return draw(
        [Sample(float(at), int(share * 8 * GIB), 8 * GIB, GIB, 0, GIB) for at, share in enumerate(shares)]
    )


def test_the_curve_shows_the_share_of_the_limit() -> None:
    lines = curve_of(0.0, 0.25, 0.5, 0.99)
    assert "the last 3 s" in lines[0]
    assert "▁▃▅█" in lines[1]
    assert "0.00 → 7.92, at most 7.92 of 8.00 GiB" in lines[1]
    assert len(curve_of(*[0.5] * 1000)[1]) < 120
    assert draw([]) == []


@pytest.mark.parametrize("ending", MEANING)
def test_the_post_mortem_has_cause_evidence_and_advice(ending: Ending, tmp_path: Path) -> None:
    uri = "postgresql://me:hunter22@host/db"
    plan = plan_of("stage=3", "offload=nvme", f"tracking.uri={uri}", run_dir=tmp_path)
    begin_attempt(tmp_path)
    outcome = Outcome(ending=ending, reason="why | how", failed_rank=1, run_dir=str(tmp_path))
    evidence = Evidence(
        RunProgress(phase="train", step=7),
        returncode=1,
        errors=(RankError(1, "ValueError", "no", f"Traceback\n  at {uri}\nValueError: no"),),
        samples=(Sample(0.0, GIB, 8 * GIB, GIB, 0, GIB),),
    )
    postmortem = write_postmortem(plan, outcome, evidence, CPU)
    assert postmortem is not None
    assert postmortem.path is not None
    text = postmortem.path.read_text()
    assert text.startswith(f"# Post-mortem: {ending}\n")
    assert "| reason | why \\| how |" in text
    assert "## Memory and disk" in text
    assert "MiB pinned" in text
    assert "hunter22" not in text
    for suggestion in postmortem.suggestions:
        assert f"`{' '.join(suggestion.overrides)}`" in text


def test_a_finished_or_refused_run_has_no_post_mortem(tmp_path: Path) -> None:
    plan = plan_of(run_dir=tmp_path)
    for ending in ("finished", "refused"):
        outcome = Outcome(ending=ending, run_dir=str(tmp_path))
        assert write_postmortem(plan, outcome, Evidence(), CPU) is None
    assert list(tmp_path.iterdir()) == []


def test_a_post_mortem_that_cannot_be_written_is_still_returned() -> None:
    outcome = Outcome(ending="disk_full", reason="why", run_dir="/proc/none")
    postmortem = write_postmortem(plan_of(run_dir=Path("/proc/none")), outcome, Evidence(), CPU)
    assert postmortem is not None
    assert postmortem.path is None
    assert "disk_full" in postmortem.text


@pytest.mark.parametrize(("use", "saves_memory"), [(0.36, False), (0.9, True), (None, True)])
def test_sigkill_advises_saving_memory_only_if_it_may_have_been_short(
    use: float | None, saves_memory: bool
) -> None:
    name = next(iter(PLANS))
    situation = Situation(plan_called(name), "train", 7, RankExit(0, -9, 0.0), memory_use=use)
    assert bool(advise("rank_died", situation, PLANS[name][1])) == saves_memory


def test_what_this_machine_lacks_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("stage=3", "offload=cpu")
    monkeypatch.setattr("zpipe.machine.probes.find_libaio", lambda environ: None)
    advised = advise("host_out_of_memory", Situation(plan, "train"), CPU)
    assert advised
    assert not any("offload=nvme" in suggestion.overrides for suggestion in advised)


def test_run_that_left_a_checkpoint_is_not_told_to_save_earlier() -> None:
    plan = plan_of("checkpoint=default", "checkpoint.save_steps=500")
    stopped = Situation(plan, "train", step=21)
    (advice,) = advise("terminated", stopped, CPU)
    assert "checkpoint.save_steps=10" in advice.overrides
    assert advise("terminated", replace(stopped, has_checkpoint=True), CPU) == []
