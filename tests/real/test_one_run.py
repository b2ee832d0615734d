"""One real run: what a user finds in the terminal, in the run folder and in MLflow."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded
from tests.support.process import SMALL, Run, counting_into, zpipe
from tests.support.store import Store, put_store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Run:
    """One finished run with checkpoints and evaluation, recorded in the store beside it."""
    cwd = tmp_path_factory.mktemp("small")
    run = zpipe(
        cwd,
        *SMALL,
        f"data.path={text_file}",
        "data.eval_fraction=0.05",
        "model.config.unused=1",
        "train.max_steps=30",
        "train.learning_rate=1e-2",
        "train.eval_strategy=steps",
        "train.eval_steps=10",
        "checkpoint=default",
        "checkpoint.save_steps=10",
        "batch.gradient_accumulation_steps=2",
        "tracking.run_name=mine",
        env=counting_into(cwd / "counts.jsonl"),
    )
    assert run.exit_code == 0, run.explain()
    return run


@pytest.fixture(scope="module")
def counts(small_run: Run) -> list[tuple[str, Any]]:
    """What the process of the run counted (tests/support/counting)."""
    lines = (small_run.folder.parent / "counts.jsonl").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


@pytest.fixture(scope="module")
def store(small_run: Run) -> Store:
    return Store(small_run.folder.parent)


def test_loss_falls(small_run: Run) -> None:
    losses = [value for _, value in small_run.series("loss")]
    assert losses[0] > 5.0
    assert losses[-1] < 3.6


def test_warnings_of_the_plan_are_printed_before_the_run(small_run: Run) -> None:
    warnings = [line for line in small_run.stderr.splitlines() if line.startswith("warning: ")]
    assert any("model.config.unused" in line for line in warnings)


def test_every_expected_file_is_there(small_run: Run) -> None:
    plan = json.loads((small_run.folder / "plan.json").read_text())
    for pattern in plan["expected_files"]:
        assert list(small_run.folder.glob(pattern)), pattern


def test_the_plan_of_a_run_says_where_its_values_came_from(small_run: Run) -> None:
    provenance = json.loads((small_run.folder / "plan.json").read_text())["provenance"]
    assert provenance["experiment"]["train.max_steps"][-1] == {"source": "train.max_steps=30", "value": 30}
    assert provenance["experiment"]["train.max_steps"][1]["source"] == "conf/model/tiny.yaml"
    assert provenance["ds_config"]["gradient_clipping"]["keys"] == ["train.max_grad_norm"]


def test_the_source_of_the_run_name_is_the_override(small_run: Run) -> None:
    plan = json.loads((small_run.folder / "plan.json").read_text())
    origins = plan["provenance"]["experiment"]["tracking.run_name"]
    assert origins[-1] == {"source": "tracking.run_name=mine", "value": "mine"}


@pytest.mark.parametrize("step", ["composition", "compilation", "detection"])
def test_a_run_does_each_step_once(counts: list[tuple[str, Any]], step: str) -> None:
    assert [name for name, _ in counts].count(step) == 1


def test_the_plan_checked_is_the_plan_run(small_run: Run, counts: list[tuple[str, Any]]) -> None:
    (checked,) = [plan for name, plan in counts if name == "compilation"]
    assert json.loads((small_run.folder / "plan.json").read_text()) == checked


def test_model_folder_loads(small_run: Run) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(small_run.folder / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) > 50_000


def test_summary_names_results_and_the_command_that_opens_mlflow(small_run: Run) -> None:
    for words in ("eval_loss", "tokens/s", "model", "checkpoint-30", "zpipe ui"):
        assert words in small_run.stdout, words


def test_without_a_terminal_progress_is_plain_lines(small_run: Run) -> None:
    assert "\x1b[" not in small_run.stdout
    assert "loss" in small_run.stdout


def test_mlflow_run_is_finished_and_named(store: Store) -> None:
    run = store.only_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mine"
    assert run.data.params["stage"] == "2"


def test_mlflow_has_every_point_of_the_event_file(small_run: Run, store: Store) -> None:
    run_id = store.only_run().info.run_id
    for name in ("loss", "grad_norm", "learning_rate", "eval_loss", "throughput/tokens_per_sec"):
        assert store.series(run_id, name) == sorted(small_run.series(name)), name
        assert small_run.series(name), name


def test_mlflow_has_the_artifacts(store: Store) -> None:
    artifacts = store.artifacts(store.only_run().info.run_id)
    assert {"ds_config.json", "plan.json", "config.yaml", "events.jsonl"} <= artifacts


def test_each_checkpoint_is_a_model_of_the_run(small_run: Run, store: Store) -> None:
    run = store.client.get_run(store.only_run().info.run_id)
    outputs = {output.model_id: output.step for output in run.outputs.model_outputs}
    models = [store.client.get_logged_model(model_id) for model_id in outputs]
    assert {model.name for model in models} == {"checkpoint-10", "checkpoint-20", "checkpoint-30", "model"}
    assert sorted(outputs.values()) == [10, 20, 30, 30]
    final = next(model for model in models if model.name == "model")
    assert str(small_run.folder / "model") in final.tags.values()


def test_no_shard_is_uploaded(store: Store) -> None:
    uploaded = sum(
        file.stat().st_size for file in (store.file.parent / "mlartifacts").rglob("*") if file.is_file()
    )
    assert uploaded < 500_000


def test_the_same_seed_gives_the_same_losses(text_file: Path, tmp_path: Path) -> None:
    overrides = (*SMALL, f"data.path={text_file}", "tracking=none", "train.seed=7")
    first, second = (preloaded.zpipe(tmp_path, *overrides, folder=name) for name in ("first", "second"))
    assert first.exit_code == second.exit_code == 0, first.explain()
    assert first.series("loss") == second.series("loss")
    assert len(first.series("loss")) == 4


def test_another_experiment_does_not_go_on_in_the_folder_of_a_run(small_run: Run) -> None:
    before = small_run.attempt.events.read_bytes()
    again = preloaded.zpipe(small_run.folder.parent, *SMALL, folder=small_run.folder.name)
    assert again.exit_code == 2
    assert "this run was started with" in again.stderr
    assert "leave hydra.run.dir out" in again.stderr
    assert small_run.attempt.number == 1
    assert small_run.attempt.events.read_bytes() == before


def test_a_finished_run_that_is_started_again_has_nothing_to_do(small_run: Run) -> None:
    before = small_run.attempt.events.read_bytes()
    again = preloaded.zpipe(
        small_run.folder.parent, f"resume={small_run.folder}", folder=small_run.folder.name
    )
    assert again.exit_code == 0, again.explain()
    assert f"this run has finished: {small_run.folder}" in again.stderr
    assert small_run.attempt.number == 1
    assert small_run.attempt.events.read_bytes() == before


def test_a_run_folder_is_not_used_again_if_resuming_is_forbidden(small_run: Run) -> None:
    again = preloaded.zpipe(small_run.folder.parent, *SMALL, "resume=never", folder=small_run.folder.name)
    assert again.exit_code == 2
    assert "already holds a run" in again.stderr
    assert small_run.attempt.number == 1


def test_inprocess_launcher_trains_without_a_worker_process(
    text_file: Path, tmp_path: Path, empty_store: Path
) -> None:
    put_store(empty_store, tmp_path)
    run = zpipe(tmp_path, *SMALL, f"data.path={text_file}", "launcher=inprocess")
    assert run.exit_code == 0, run.explain()
    assert Store(tmp_path).only_run().info.status == "FINISHED"
    assert not run.attempt.logs.exists()


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, small_run: Run) -> Run:
    cwd = tmp_path_factory.mktemp("pretrained")
    shutil.copytree(small_run.folder / "model", cwd / "model")
    unsavable = {"do_sample": False, "temperature": 0.6}
    (cwd / "model/generation_config.json").write_text(json.dumps(unsavable))
    with (cwd / "chat.jsonl").open("w") as file:
        for number in range(40):
            question = {"role": "user", "content": f"What follows {number}?"}
            reply = {"role": "assistant", "content": f"{number + 1} " * (number % 5 + 1)}
            file.write(json.dumps({"messages": [question, reply]}) + "\n")
    return preloaded.zpipe(
        cwd,
        "model.name_or_path=model",
        "data.path=chat.jsonl",
        "data.packing=none",
        "data.max_length=256",
        "train.max_steps=4",
        "train.logging_steps=1",
    )


def test_training_goes_on_from_the_saved_model(continued: Run) -> None:
    assert continued.exit_code == 0, continued.explain()
    assert len(continued.series("loss")) == 4


def test_generation_settings_that_cannot_be_saved_are_changed_and_said(continued: Run) -> None:
    assert "generation_config.json: do_sample is set to true" in continued.stdout
    assert json.loads((continued.folder / "model/generation_config.json").read_text())["do_sample"] is True


def test_the_new_model_starts_from_the_old_weights(continued: Run, small_run: Run) -> None:
    from safetensors.numpy import load_file

    new, old = (load_file(each.folder / "model/model.safetensors") for each in (continued, small_run))
    assert all(abs(new[name] - old[name]).max() < 0.1 for name in old)
