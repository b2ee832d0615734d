"""What short runs have measured: where it is kept, what it holds for, and what is chosen because of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.planning import CPU, GIB, H200, composed_of, experiment_of, gpus, plan_of, problems_of
from zpipe.compile.compiler import compile_plan
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.plans.plan import Plan
from zpipe.probes import store
from zpipe.probes.short_run import shortened
from zpipe.probes.store import remember
from zpipe.problems import Refusal
from zpipe.resources import CONF as CONF_FOLDER
from zpipe.runfolder.lock import held
from zpipe.search.candidates import Trial
from zpipe.search.choose import choose
from zpipe.search.identity import workload_digest
from zpipe.search.measured import Measurement, measurements_file, read_measurements
from zpipe.terminal.choice_text import choice_lines

ASKED = ("stage=auto", "batch=auto", "model=llama3_1b", "data.max_length=2048")
RUN = Path("/runs/one")


def here(*cards: Gpu) -> Hardware:
    """A machine whose disk is known, as for a run."""
    return replace(gpus(*cards), free_disk=lambda _: 1000 * GIB)


ONE = here(H200)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def trials(*overrides: str, hardware: Hardware = ONE) -> tuple[Trial, ...]:
    composed = composed_of(*ASKED, *overrides)
    facts = gather(composed.experiment, hardware, RUN)
    return choose(composed.experiment, facts, composed.provenance).trials


def measurement(trial: Trial, **values: Any) -> Measurement:
    return Measurement(
        workload=trial.workload,
        settings=trial.settings,
        micro_batch=trial.micro_batch,
        accumulation=trial.accumulation,
        day="2026-11-28",
        about=trial.about,
        **values,
    )


def choice_line(plan: Plan) -> str:
    assert plan.choice is not None
    return next(choice_lines(plan.choice))


def test_choice_and_its_nearest_rivals_are_measured() -> None:
    memory = "hardware.gpu_memory_gib=134"
    first, larger, other = trials("auto.measure=true", memory)
    plan = plan_of(*ASKED, memory, hardware=ONE)
    assert first.micro_batch == plan.micro_batch
    assert first.experiment.stage.stage == larger.experiment.stage.stage == plan.experiment.stage.stage
    assert larger.micro_batch > first.micro_batch
    assert (other.experiment.stage, other.experiment.train) != (
        first.experiment.stage,
        first.experiment.train,
    )


def test_the_next_smaller_micro_batch_is_measured_where_no_larger_one_may_fit() -> None:
    first, _, smaller = trials("auto.measure=true")
    assert smaller.micro_batch < first.micro_batch


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_many_combinations_are_measured_as_are_asked_for(count: int) -> None:
    found = trials(f"auto.probes={count}")
    assert len(found) == count
    assert len({(str(each.settings), each.micro_batch) for each in found}) == count


def test_nothing_is_measured_unless_it_is_asked_for() -> None:
    assert trials() == trials("auto.measure=false") == trials("auto.probes=0") == ()


def test_nothing_that_is_known_not_to_fit_is_measured() -> None:
    found = trials("auto.probes=8", "hardware.gpu_memory_gib=40")
    plans = [compile_plan(each.experiment, RUN, [], ONE) for each in found]
    verdicts = {fit.verdict for plan in plans for fit in plan.memory_fits}
    assert [plan.micro_batch for plan in plans] == [each.micro_batch for each in found]
    assert "does not fit" not in verdicts


def test_measured_fastest_is_chosen() -> None:
    first, larger, other = trials("auto.measure=true")
    remember([measurement(first, tokens_per_second=100.0), measurement(other, tokens_per_second=300.0)])
    plan = plan_of(*ASKED, hardware=ONE)
    assert plan.experiment.stage.stage == other.experiment.stage.stage
    assert plan.micro_batch == other.micro_batch
    assert choice_line(plan).endswith("fastest of 2 that were measured: 300 tokens/s, measured on 2026-11-28")
    assert plan.choice is not None
    assert plan.choice.chosen is not None
    assert plan.choice.chosen.measured_tokens_per_second == 300.0
    assert plan.choice.runners_up[0].measured_tokens_per_second == 100.0
    assert [each.title for each in trials("auto.measure=true")] == [larger.title]


def test_explanation_of_a_value_names_the_measurement() -> None:
    (first,) = trials("auto.probes=1")
    remember([measurement(first, tokens_per_second=100.0)])
    plan = plan_of(*ASKED, hardware=ONE)
    source = plan.provenance.chain("batch.per_device_train_batch_size")[-1].source
    assert source == "auto: the only one that was measured: 100 tokens/s, measured on 2026-11-28"


def test_combination_that_ran_out_of_memory_is_not_chosen_nor_a_larger_one_of_its_kind() -> None:
    (first,) = trials("auto.probes=1")
    remember([measurement(first, failed="CUDA out of memory", ran_out=True)])
    plan = plan_of(*ASKED, hardware=ONE)
    is_same = plan.experiment.stage.stage == first.experiment.stage.stage
    assert not is_same or plan.micro_batch < first.micro_batch
    assert plan.choice is not None
    failed = [each for each in plan.choice.runners_up if each.probe_failed]
    assert [each.probe_failed for each in failed] == ["CUDA out of memory"]
    assert any("failed on 2026-11-28: CUDA out of memory" in line for line in choice_lines(plan.choice))


def test_plan_is_refused_if_everything_ran_out_of_memory() -> None:
    fixed = ("kernels=liger", "stage.stage=1", "batch.per_device_train_batch_size=4")
    (only,) = trials(*fixed, "auto.probes=3")
    remember([measurement(only, failed="out of memory", ran_out=True)])
    with pytest.raises(Refusal) as caught:
        plan_of(*ASKED, *fixed, hardware=ONE)
    (problem,) = caught.value.problems
    assert "every combination that may fit ran out of memory" in problem.reason
    assert problem.fix == "auto.measure=again"
    assert trials(*fixed, "auto.measure=again") == (only,)


def test_failure_of_another_kind_only_loses() -> None:
    first, second = trials("auto.probes=2")
    remember([measurement(first, failed="rank 0 died"), measurement(second, tokens_per_second=1.0)])
    assert plan_of(*ASKED, hardware=ONE).micro_batch == second.micro_batch
    remember([measurement(second, failed="rank 0 died")])
    assert plan_of(*ASKED, hardware=ONE).micro_batch == first.micro_batch


def test_measured_stage_does_not_win_over_one_that_is_predicted_to_be_much_faster() -> None:
    slow = ("stage.stage=3", "batch.per_device_train_batch_size=1")
    (measured,) = trials(*slow, "auto.probes=1")
    remember([measurement(measured, tokens_per_second=5.0)])
    assert plan_of(*ASKED, *slow, hardware=ONE).choice.chosen.measured_tokens_per_second == 5.0  # type: ignore[union-attr]
    plan = plan_of(*ASKED, hardware=ONE)
    assert plan.experiment.stage.stage != 3
    assert plan.micro_batch > 1


def test_compilation_is_shared_among_the_steps_of_the_run() -> None:
    """A short run does not count it."""
    found = trials("auto.probes=8")
    compiled = next(each for each in found if each.experiment.train.torch_compile)
    plain = next(each for each in found if not each.experiment.train.torch_compile)
    remember([measurement(compiled, tokens_per_second=1100.0), measurement(plain, tokens_per_second=1000.0)])
    for steps, is_compiled in ((100_000, True), (2, False)):
        plan = plan_of(*ASKED, f"train.max_steps={steps}", hardware=ONE)
        assert plan.experiment.train.torch_compile is is_compiled


def test_again_measures_what_is_known_and_chooses_without_it() -> None:
    found = trials("auto.measure=true")
    remember([measurement(each, tokens_per_second=10.0 + each.micro_batch) for each in found])
    assert trials("auto.measure=true") == ()
    assert trials("auto.measure=again") == found
    assert "predicted" in choice_line(plan_of(*ASKED, "auto.measure=again", hardware=ONE))


@pytest.mark.parametrize(
    "override",
    [
        "data.max_length=1024",
        "precision=fp32",
        "optimizer=adamw_torch",
        "kernels=none",
        "model.attn_implementation=eager",
        "model.config.num_hidden_layers=8",
        "hardware.gpu_memory_gib=100",
        "launcher.env.NCCL_ALGO=Ring",
        "train.torch_compile_backend=eager",
    ],
)
def test_what_the_speed_depends_on_is_another_workload(override: str) -> None:
    is_searched = override.startswith("kernels")  # of a combination, not of the workload
    assert (digest(override) == digest()) is is_searched


@pytest.mark.parametrize(
    "override",
    [
        "train.learning_rate=0.5",
        "train.max_steps=7",
        "train.seed=7",
        "tracking=none",
        "checkpoint.save_steps=3",
        "stage=3",
        "batch.per_device_train_batch_size=3",
        "train.gradient_checkpointing=true",
        "train.torch_compile=true",
        "launcher.hang_timeout_s=9",
        "auto.probes=3",
    ],
)
def test_what_the_speed_does_not_depend_on_or_is_searched_is_the_same_workload(override: str) -> None:
    assert digest(override) == digest()


def test_another_machine_is_another_workload() -> None:
    more = replace(ONE, cores=ONE.cores + 1)
    assert len({digest(hardware=each) for each in (ONE, more, here(H200, H200), here(GPU_OF_80))}) == 4


GPU_OF_80 = replace(H200, memory=80 * GIB)


def digest(*overrides: str, hardware: Hardware = ONE) -> str:
    experiment = experiment_of(*ASKED, *overrides)
    return workload_digest(experiment, gather(experiment, hardware, RUN))


def test_measurements_of_another_machine_and_of_several_nodes_are_not_used() -> None:
    (first,) = trials("auto.probes=1")
    remember([measurement(first, tokens_per_second=1e9)])
    elsewhere = plan_of(*ASKED, hardware=gpus(H200))
    several = plan_of(*ASKED, "launcher.nodes=2", "launcher.master_addr=a", hardware=ONE)
    assert "predicted" in choice_line(elsewhere)
    assert "predicted" in choice_line(several)


def test_new_measurement_replaces_the_one_before() -> None:
    (first,) = trials("auto.probes=1")
    for speed in (1.0, 2.0):
        remember([measurement(first, tokens_per_second=speed)])
    assert [each.tokens_per_second for each in read_measurements().measurements] == [2.0]


@pytest.mark.parametrize("content", ["{", '{"format": 2}', '{"measurements": [{"workload": 1}]}', "[]"])
def test_file_that_cannot_be_read_is_not_used_and_not_replaced(
    content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = trials("auto.probes=1")
    remember([measurement(first, tokens_per_second=1.0)])
    measurements_file().write_text(content)
    plan = plan_of(*ASKED, hardware=ONE)
    assert "predicted" in choice_line(plan)
    assert any(str(measurements_file()) in notice.text for notice in plan.notices)
    remember([measurement(first, tokens_per_second=1.0)])
    assert measurements_file().read_text() == content
    assert f"measurements are not kept: {measurements_file()}: " in capsys.readouterr().err


def test_nothing_is_written_while_another_process_has_the_lock(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.0)
    (first,) = trials("auto.probes=1")
    remember([measurement(first, tokens_per_second=1.0)])
    before, file = measurements_file().read_text(), measurements_file()
    with held(file.with_name(f".{file.name}.lock")):
        remember([measurement(first, tokens_per_second=2.0)])
    assert file.read_text() == before
    assert f"measurements are not kept: {file}: another process" in capsys.readouterr().err


def test_cache_that_cannot_be_written_costs_the_measurements_alone(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = trials("auto.probes=1")
    (cache / "zpipe").write_text("a file")
    remember([measurement(first, tokens_per_second=1.0)])
    assert "measurements are not kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("stage=auto", "auto.probes=-1"), "auto.probes"),
        (("stage=auto", "auto.probes=9"), "auto.probes"),
        (("stage=auto", "auto.measure=sometimes"), "auto.measure"),
    ],
)
def test_value_that_is_none_is_refused(overrides: tuple[str, ...], key: str) -> None:
    (problem,) = problems_of(*overrides)
    assert problem.key == key
    assert problem.fix


def test_on_a_cpu_something_is_chosen_only_if_it_is_measured() -> None:
    cpu = replace(CPU, free_disk=lambda _: 1000 * GIB)
    tiny = ("stage=auto", "batch=auto")
    for overrides in (tiny, (*tiny, "auto.measure=true")):
        choice = plan_of(*overrides, hardware=cpu).choice
        assert choice is not None
        assert (choice.chosen, choice.to_measure) == (None, 0)
    choice = plan_of(*tiny, "auto.probes=2", hardware=cpu).choice
    assert choice is not None
    assert choice.to_measure == 2
    assert "a run measures 2 combinations before it starts, and chooses again" in choice_lines(choice)


def test_short_run_saves_records_and_evaluates_nothing() -> None:
    given = ("data.eval_fraction=0.1", "train.eval_strategy=steps", "train.load_best_model_at_end=true")
    experiment = shortened(experiment_of(*given, "checkpoint.save_steps=2", "checkpoint.every_minutes=5"))
    plan = compile_plan(experiment, RUN, [], CPU)
    assert plan.training_arguments["save_strategy"] == "no"
    assert plan.training_arguments["eval_strategy"] == "no"
    assert not plan.experiment.tracking.enabled
    assert not any("checkpoint" in each or "model" in each for each in plan.expected_files)


SCHEDULES = sorted(each.stem for each in (CONF_FOLDER / "scheduler").glob("*.yaml"))


@pytest.mark.parametrize("option", SCHEDULES)
def test_short_run_of_every_schedule_and_evaluation_is_accepted(option: str) -> None:
    evaluated = ("train.eval_strategy=steps", "train.eval_steps=5", "train.eval_delay=5")
    given = ("train.max_steps=1000", "data.eval_fraction=0.1", *evaluated, *_parameters_of(option))
    composed = composed_of(f"scheduler={option}", *given)
    plan = compile_plan(shortened(composed.experiment), RUN, [], CPU, composed.provenance)
    assert plan.training_arguments["max_steps"] == 6


def _parameters_of(option: str) -> list[str]:
    if option == "warmup_stable_decay":
        return ["scheduler.lr_scheduler_kwargs.num_decay_steps=20"]
    decays = option in ("warmup_decay", "warmup_cosine")
    return ["scheduler.params.total_num_steps=1000"] if decays else []


def test_all_candidates_that_ran_out_make_room_for_the_next_ones() -> None:
    first = trials("auto.measure=true")
    remember([measurement(each, failed="out of memory", ran_out=True) for each in first])
    second = trials("auto.measure=true")
    assert second
    known = [(each.settings, each.micro_batch) for each in first]
    assert not any((each.settings, each.micro_batch) in known for each in second)


def test_smallest_is_chosen_with_a_warning_if_nothing_is_left() -> None:
    asked = ("stage.stage=2", "memory.check=warn", "auto.measure=true")
    (first, *_) = trials(*asked)
    remember([measurement(first, failed="out of memory", ran_out=True)])
    busy = here(replace(H200, used=H200.memory - 4 * GIB))
    assert plan_of(*ASKED, *asked, hardware=busy).micro_batch == 1


def test_cache_folder_that_cannot_be_looked_at_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "a" * 300)
    plan = plan_of(*ASKED, hardware=ONE)
    assert plan.choice is not None
    assert any("is not used: cannot be read" in each for each in plan.choice.notes)
