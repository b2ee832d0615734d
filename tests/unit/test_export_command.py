"""`zpipe export` chooses what it says, and refuses what it cannot export before it imports PyTorch."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.attempts import begin_attempt, contents, end_attempt, report
from tests.support.checkpoints import edit_manifest, flip_bit, make_checkpoint
from tests.support.plans import make_plan
from tests.support.process import environment
from zpipe.checkpoints.exportable import Choice, Exportable
from zpipe.checkpoints.home import home_in
from zpipe.checkpoints.state import CheckpointState, inspect
from zpipe.cli.arguments import byte_count
from zpipe.cli.export import _exported
from zpipe.cli.export_output import check_output
from zpipe.cli.main import main
from zpipe.problems import Refusal
from zpipe.runfolder.folder import Attempt, RunFolder

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    make_plan(tmp_path / "run")
    return begin_attempt(tmp_path / "run")


@pytest.fixture
def run(attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with two good checkpoints that was stopped."""
    monkeypatch.chdir(tmp_path)
    folder = attempt.path.parent
    end_attempt(attempt, "terminated")
    make_checkpoint(folder, 20)
    make_checkpoint(folder, 40)
    return folder


def chosen(run: Path, wanted: str | None = None) -> tuple[Exportable, list[str]]:
    """What is exported, and the checkpoints that were passed over."""
    skipped: list[CheckpointState] = []
    choice = Choice(RunFolder(run), lambda state, run_id: inspect(state.path, run_id), skipped.append)
    return choice.choose(wanted), [each.path.name for each in skipped]


def finish(attempt: Attempt, step: int, size: int = 7) -> Path:
    """Leaves a final model, with the report of it."""
    folder = attempt.path.parent / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    saved = ("model", {"step": step, "path": "model", "bytes": size})
    report(attempt, saved, ("phase", {"name": "done", "detail": ""}))
    return folder


def test_stopped_run_gives_its_newest_checkpoint(run: Path) -> None:
    found, skipped = chosen(run)
    assert (found.folder.name, found.step, skipped) == ("checkpoint-40", 40, [])
    assert found.reason == "the newest intact checkpoint; there is no final model"


def test_damaged_checkpoint_is_passed_over(run: Path) -> None:
    flip_bit(run / "checkpoint-40" / "latest", 1)
    found, skipped = chosen(run)
    assert (found.folder.name, skipped) == ("checkpoint-20", ["checkpoint-40"])


def test_final_model_is_taken_from_the_checkpoint_of_its_step(attempt: Attempt, run: Path) -> None:
    finish(attempt, 20)
    found, _ = chosen(run)
    assert (found.folder.name, found.reason) == ("checkpoint-20", "the final model")


def test_final_model_without_a_checkpoint_is_taken_as_it_is(attempt: Attempt, run: Path) -> None:
    folder = finish(attempt, 50)
    found, _ = chosen(run)
    assert (found.folder, found.step, found.manifest) == (folder, 50, None)


def test_half_written_final_model_does_not_count(attempt: Attempt, run: Path) -> None:
    finish(attempt, 50, size=1_000)
    assert chosen(run)[0].folder.name == "checkpoint-40"


def test_model_of_an_attempt_before_does_not_count_once_the_run_goes_on(attempt: Attempt, run: Path) -> None:
    finish(attempt, 20)
    report(begin_attempt(run), ("attempt", {"number": 2, "step": 20}))
    assert chosen(run)[0].folder.name == "checkpoint-40"


def test_best_intact_checkpoint_by_a_metric(attempt: Attempt, run: Path) -> None:
    make_checkpoint(run, 60)
    losses = {20: 3.0, 40: 1.0, 60: 2.0}
    report(
        attempt,
        *(("metrics", {"step": step, "values": {"eval_loss": loss}}) for step, loss in losses.items()),
    )
    assert chosen(run, "best:eval_loss")[0].folder.name == "checkpoint-40"
    flip_bit(run / "checkpoint-40" / "latest", 1)
    found, skipped = chosen(run, "best:eval_loss")
    assert (found.folder.name, skipped) == ("checkpoint-60", ["checkpoint-40"])
    with pytest.raises(Refusal, match="--checkpoint best:eval_loss"):
        chosen(run, "best:eval_los")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "30"], "--checkpoint=30: the run has no such checkpoint\n       allowed: 40, 20"),
        (["--checkpoint", "newest"], "--checkpoint=newest: neither a step nor a metric"),
        (["--checkpoint", "best:loss"], "--checkpoint=best:loss: this run has no such metric"),
        (["--dtype", "int8"], "--dtype=int8: unknown value"),
        (["--format", "bin"], "--format=bin: unknown value\n       allowed: safetensors"),
        (["--max-shard-size", "5 apples"], "--max-shard-size=5 apples: not a size"),
        (["--output", "run"], "--output=run: this exists"),
        (["--output", "no/such/folder"], "no/such does not exist"),
        (["--output", "run/checkpoint-60"], "is the folder of a run, and zpipe's alone"),
        (["--output", "run/attempt-1/mine"], "is the folder of a run, and zpipe's alone"),
        (["--register", "a/b"], "--register=a/b: not a name for a model"),
        (["--register", "mine"], "--register=mine: MLflow does not have this run"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_cannot_be_exported_is_refused(
    arguments: list[str], message: str, run: Path, capsys: Captured
) -> None:
    before = contents(run.parent)
    assert main(["export", str(run), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert contents(run.parent) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: flip_bit(folder / "model.safetensors", 3), "is damaged: changed: model.safetensors"),
        (lambda folder: (folder / "manifest.json").unlink(), "is incomplete: missing: manifest.json"),
        (lambda folder: edit_manifest(folder, run_id="theirs"), "is other run: written by the run theirs"),
    ],
    ids=["changed", "incomplete", "of another run"],
)
def test_checkpoint_that_is_not_intact_is_refused(
    damage: "object", message: str, run: Path, capsys: Captured
) -> None:
    assert callable(damage)
    damage(run / "checkpoint-40")
    assert main(["export", str(run), "--checkpoint", "40"]) == 2
    printed = capsys.readouterr().err
    assert f"--checkpoint=40: checkpoint-40 {message}" in printed
    assert "allowed: 20" in printed


def test_format_that_no_training_has_is_refused(run: Path, capsys: Captured) -> None:
    edit_manifest(run / "checkpoint-40", dtype="int3")
    assert main(["export", str(run)]) == 2
    assert "it was trained in int3" in capsys.readouterr().err


def test_refusals_and_help_import_no_pytorch(run: Path) -> None:
    flip_bit(run / "checkpoint-40" / "latest", 1)
    code = (
        "import sys; from zpipe.cli.main import main;"
        f"code = main(['export', {str(run)!r}, '--checkpoint', '40']);"
        "assert code == 2; assert not {'torch', 'transformers', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "count"), [("5GB", 5_000_000_000), ("1.5 MiB", 1_572_864), ("100kb", 100_000), ("7B", 7)]
)
def test_sizes(text: str, count: int) -> None:
    assert byte_count("--size")(text) == count


@pytest.mark.parametrize("text", ["", "5", "GB", "-1GB", "0B", "1e3MB", "5iB", "99999999999GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Refusal, match="500MB"):
        byte_count("--size")(text)


def outputs(printed: str) -> list[str]:
    """The folders that refusals name as ones that are accepted."""
    return [line.partition("--output ")[2] for line in printed.splitlines() if "try:" in line]


def test_no_output_takes_a_name_of_a_run(run: Path, capsys: Captured) -> None:
    other = run.parent / "other"
    make_plan(other)
    (run.parent / "link").symlink_to(run)
    for output in (run / "model", run.parent / "link" / "attempt-2", other / "checkpoint-9"):
        assert main(["export", str(run), "--output", str(output)]) == 2
        (accepted,) = outputs(capsys.readouterr().err)
        check_output(Path(accepted), RunFolder(run))


def test_no_output_is_among_checkpoints_on_a_local_disk(run: Path, tmp_path: Path) -> None:
    disk = {"checkpoint.node_local": True, "checkpoint.node_local_path": str(tmp_path / "disk")}
    make_plan(run, experiment=disk)
    home = home_in(RunFolder(run))
    home.mkdir(parents=True)
    with pytest.raises(Refusal, match="the folder of a run"):
        check_output(home / "checkpoint-3", RunFolder(run))


def test_default_output_is_not_put_into_the_run(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    before = contents(run.parent)
    assert main(["export", "."]) == 2
    assert outputs(capsys.readouterr().err) == [str(run.parent / "run-export")]
    assert contents(run.parent) == before


def test_accepted_output_is_free(run: Path, capsys: Captured) -> None:
    (run.parent / "run-export").mkdir()
    assert main(["export", str(run), "--output", str(run / "mine")]) == 2
    assert outputs(capsys.readouterr().err) == [str(run.parent / "run-export-2")]


def test_a_reader_that_is_gone_refuses_no_output(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    source, _ = chosen(run)
    monkeypatch.setitem(
        sys.modules, "zpipe.train.export.exporting", SimpleNamespace(Request=lambda *_: None, export=gone)
    )
    with pytest.raises(BrokenPipeError):
        _exported(source, "bf16", "bf16", run.parent / "new", 1 << 30)
