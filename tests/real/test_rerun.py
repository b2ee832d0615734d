"""A run is repeated from its folder, and a foreign plan can choose neither code nor servers."""

import json
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.process import SMALL, Run

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def first(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("rerun")
    settings = ("stage=1", "stage.reduce_bucket_size=5e7", "tracking.tags.who=me", "tracking=none")
    given = "launcher.env.MY_TOKEN=s3cret-value-1"
    run = preloaded.zpipe(folder, *SMALL, *settings, f"data.path={text_file}", given)
    assert run.exit_code == 0, run.explain()
    return run


def again(first: Run, *overrides: str, name: str) -> Run:
    folder = first.folder.parent / name
    arguments = (str(first.folder), *overrides, f"hydra.run.dir={folder}")
    return preloaded.verb(first.folder.parent, "rerun", *arguments, folder=folder)


def test_rerun_repeats_the_plan_but_for_what_is_changed(first: Run) -> None:
    run = again(first, "checkpoint=default", "launcher.env.MY_TOKEN=other", name="again")
    assert run.exit_code == 0, run.explain()
    old, new = (json.loads((each.folder / "plan.json").read_text()) for each in (first, run))
    assert (run.folder / "checkpoint-4").is_dir()
    for each in (old, new):
        each["experiment"]["launcher"]["env"].clear()
        del each["experiment"]["checkpoint"]
    assert new["experiment"] == old["experiment"]
    assert run.series("loss") == first.series("loss")


def test_secrets_that_the_plan_does_not_hold_must_be_given(first: Run) -> None:
    run = again(first, name="hidden")
    assert run.exit_code == 2
    assert "launcher.env.MY_TOKEN" in run.stderr
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ("block", "values", "key"),
    [
        ("launcher", {"env": {"LD_PRELOAD": "/tmp/evil.so"}}, "launcher.env.LD_PRELOAD"),
        ("launcher", {"env": {"PYTHONPATH": "/tmp/evil"}}, "launcher.env.PYTHONPATH"),
        ("tracking", {"run_name": "${oc.env:HOME}"}, "tracking.run_name"),
    ],
)
def test_foreign_plan_obeys_the_rules_of_a_recipe(
    block: str, values: dict[str, object], key: str, first: Run, tmp_path: Path
) -> None:
    plan = json.loads((first.folder / "plan.json").read_text())
    plan["experiment"]["launcher"]["env"] = {}
    plan["experiment"][block] |= values
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "plan.json").write_text(json.dumps(plan))
    new = tmp_path / "new"
    run = preloaded.verb(tmp_path, "rerun", "foreign", f"hydra.run.dir={new}", folder=new)
    assert run.exit_code == 2, run.explain()
    assert key in run.stderr
    assert not run.folder.exists()
