"""Recipes are composed from any folder, and invalid ones are refused with file and line."""

from pathlib import Path

import pytest

from tests.support.planning import plan_of, problems_of


def written(folder: Path, text: str) -> str:
    """The override that chooses a recipe with this text."""
    file = folder / "mine.yaml"
    file.write_bytes(text.encode("latin-1"))
    return f"recipe={file}"


def test_recipe_from_any_folder_is_composed(tmp_path: Path) -> None:
    recipe = tmp_path / "my recipe.yaml"
    recipe.write_text('defaults:\n  - override /stage: "3"\ntrain:\n  max_steps: 7\n')
    plan = plan_of(f"recipe={recipe}")
    assert plan.experiment.stage.stage == 3
    assert plan.experiment.train.max_steps == 7


def test_overrides_win_over_the_recipe() -> None:
    plan = plan_of("recipe=zero3_nvme", "offload=none", "train.max_steps=9")
    assert plan.experiment.offload.offload_param.device == "none"
    assert plan.experiment.train.max_steps == 9


def test_recipe_null_means_no_recipe() -> None:
    assert plan_of("recipe=null").ds_config == plan_of().ds_config


def test_recipe_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "typo.yaml"
    recipe.write_text("train:\n  max_stepps: 7\n")
    (problem,) = problems_of(f"recipe={recipe}")
    assert "max_stepps" in str(problem)


def test_recipe_that_names_python_objects_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "evil.yaml"
    recipe.write_text("hydra:\n  callbacks:\n    x:\n      _target_: os.system\n")
    (problem,) = problems_of(f"recipe={recipe}")
    assert "_target_" in problem.reason


def test_option_may_be_a_number(tmp_path: Path) -> None:
    recipe = written(tmp_path, "defaults:\n  - override /stage: 3\n")
    assert plan_of(recipe).experiment.stage.stage == 3


def test_bare_no_means_never(tmp_path: Path) -> None:
    recipe = written(tmp_path, "train: {eval_strategy: no}\ncheckpoint: {save_strategy: no}\n")
    arguments = plan_of(recipe).training_arguments
    assert (arguments["eval_strategy"], arguments["save_strategy"]) == ("no", "no")


def test_empty_recipe_changes_nothing(tmp_path: Path) -> None:
    assert plan_of(written(tmp_path, "")).ds_config == plan_of().ds_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [\n", "mine.yaml, line 2, column 1: invalid YAML"),
        ("train:\n\tseed: 1\n", "mine.yaml, line 2, column 1: invalid YAML"),
        ("train: {seed: 1}\ntrain: {seed: 2}\n", "found duplicate key train"),
        ("\xff\xfe", "invalid YAML"),
        ("- a\n", "a recipe must be a mapping"),
        ("defaults: 5\n", "a list of lines like"),
        ("defaults: [5]\n", "a list of lines like"),
        ("stage: 3\n", '"- override /stage: 3"'),
        ("optimizer: adamw\n", '"- override /optimizer: adamw"'),
        ('defaults:\n  - override /stage: "9"\n', "allowed: 0, 1, 2, 3"),
        ("train: null\n", "a mapping of keys"),
        ("train.seed: 5\n", "train: {seed: 5}"),
    ],
)
def test_invalid_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (problem,) = problems_of(written(tmp_path, text))
    assert message in str(problem)


@pytest.mark.parametrize(
    "text", ["", "train: {max_steps: 7}\n", "defaults: [override /data: python_stdlib]\n"]
)
def test_data_path_override_wins_over_the_recipe(text: str, tmp_path: Path) -> None:
    recipe = written(tmp_path, text)
    data = tmp_path / "train.txt"
    data.write_text("some text\n")
    experiment = plan_of(recipe, f"data.path={data}").experiment
    assert (experiment.data.source, experiment.data.path) == ("files", str(data))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hydra:\n  job_logging:\n    handlers: {x: {class: a.b}}\n", "hydra.job_logging.handlers.x.class"),
        ("hydra:\n  job:\n    env_set: {LD_PRELOAD: /evil.so}\n", "hydra.job.env_set.LD_PRELOAD"),
        ("hydra:\n  searchpath: [file:///evil]\n", "hydra.searchpath"),
        ("hydra: null\n", "hydra"),
        ("defaults:\n  - override /hydra/launcher: joblib\n", "defaults"),
        ("defaults:\n  - override /hydra/job_logging: colorlog\n", "defaults"),
        ("defaults:\n  - /recipe: mine\n", "defaults"),
        ("defaults:\n  - mine\n", "defaults"),
        ("tracking:\n  run_name: ${oc.env:HOME}\n", "tracking.run_name"),
        ("tracking:\n  run_name: ${oc.decode:x}\n", "tracking.run_name"),
        ("hydra:\n  run:\n    dir: ${oc.env:HOME}/x\n", "hydra.run.dir"),
        ("launcher:\n  env: {PYTHONPATH: /evil}\n", "launcher.env.PYTHONPATH"),
        ("launcher:\n  env: {LD_LIBRARY_PATH: /evil}\n", "launcher.env.LD_LIBRARY_PATH"),
        ("launcher:\n  env: {https_proxy: http://evil}\n", "launcher.env.https_proxy"),
        ("model:\n  trust_remote_code: true\n", "model.trust_remote_code"),
        (
            "model:\n  attn_implementation: kernels-community/flash-attn2\n",
            "model.attn_implementation",
        ),
        ("resume:\n  checkpoint: /theirs/checkpoint-4\n  trust: true\n", "resume.trust"),
    ],
)
def test_recipe_cannot_execute_or_redirect(text: str, key: str, tmp_path: Path) -> None:
    assert key in [problem.key for problem in problems_of(written(tmp_path, text))]


def test_recipe_may_name_folders_variables_and_its_own_keys(tmp_path: Path) -> None:
    text = (
        "hydra:\n  run:\n    dir: out/${now:%H-%M}\nlauncher:\n  env: {NCCL_DEBUG: INFO}\n"
        "train:\n  seed: 7\n  data_seed: ${train.seed}\n"
    )
    plan = plan_of(written(tmp_path, text))
    assert plan.experiment.launcher.env == {"NCCL_DEBUG": "INFO"}
    assert plan.experiment.train.data_seed == 7


def test_recipe_cannot_send_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = written(tmp_path, "tracking:\n  uri: http://evil.example\n")
    assert problems_of(recipe) == []
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-t0ken")
    assert [problem.key for problem in problems_of(recipe)] == ["tracking.uri"]


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("defaults:\n  - override /hardware: l4\n", "hardware", "sets hardware=l4: "),
        ("hardware: {cores: 1, nvme_gib: 500}\n", "hardware", "hardware.cores=1, hardware.nvme_gib=500: "),
        ("memory: {check: warn}\n", "memory.check", "sets it to warn: "),
        ("strict: false\n", "strict", "sets it to false: "),
    ],
)
def test_recipe_that_changes_a_check_is_named_in_a_warning(
    tmp_path: Path, text: str, key: str, told: str
) -> None:
    recipe = written(tmp_path, text)
    (notice,) = [each for each in plan_of(recipe, "precision=fp32").notices if each.level == "warning"]
    assert notice.key == key
    assert str(tmp_path / "mine.yaml") in notice.text
    assert told in notice.text


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("train: {max_steps: 7}\n", ["hardware=l4", "memory.check=warn", "strict=false"]),
        ("memory: {check: warn}\n", ["memory.check=refuse"]),
        ("memory: {check: warn}\n", ["memory.check=warn"]),
        ("memory: {check: refuse}\nstrict: true\nhardware: {cores: null}\n", []),
        ("defaults:\n  - override /hardware: here\n", []),
        ("defaults:\n  - override /hardware: l4\n", ["hardware=here"]),
    ],
)
def test_what_the_command_line_decides_is_no_warning_of_a_recipe(
    tmp_path: Path, text: str, overrides: list[str]
) -> None:
    notices = plan_of(written(tmp_path, text), *overrides, "precision=fp32").notices
    assert not [each for each in notices if "mine.yaml" in each.text]
