"""The command line: which verb, and only then the imports that it needs."""

import gc
import os
import sys
from collections.abc import Callable

from zpipe import __version__
from zpipe.exits import Exit
from zpipe.problems import Refusal

USAGE = """\
zpipe {version}: declarative DeepSpeed fine-tuning, recorded in MLflow

  zpipe [OVERRIDES]          compose, check, compile, train, record
  zpipe -m [OVERRIDES]       the same for every combination of comma lists
  zpipe plan [OVERRIDES]     everything but the training: prints and writes the plan
    --explain [KEY]          instead: which file, override or rule a value came from
    --format FORMAT          text, json, yaml or table
    -m                       instead: every point of a sweep, checked; nothing is written
  zpipe diff RUN_A RUN_B     what differs between two runs' plans, and who set it
  zpipe import FILE...       a DeepSpeed JSON, accelerate's YAML or TrainingArguments as overrides
  zpipe runs                 the recorded runs, newest first
  zpipe show RUN             one run: a run folder, or the beginning of its id in MLflow
  zpipe ui                   MLflow's web page on this machine
  zpipe record FOLDER        bring MLflow up to date with a run folder or a sweep's
  zpipe sweep resume FOLDER  run what a sweep lacks; zpipe sweep report FOLDER writes its report again
  zpipe report RUN           one archive for a bug report, without secrets

Overrides
  GROUP=OPTION               choose an option, e.g. stage=3 offload=nvme precision=bf16
  GROUP.KEY=VALUE            set a value, e.g. stage.reduce_bucket_size=5e8 train.max_steps=100
  recipe=NAME|FILE.yaml      an experiment of its own file

Groups and options
{groups}

Hydra's own flags work as Hydra documents them: --cfg job|hydra|all, --info, -m/--multirun,
--hydra-help, hydra/launcher=joblib, hydra/sweeper=optuna, hydra.run.dir=FOLDER …

Exit codes: 0 finished, 2 refused input, 3 this machine lacks something, 4 a Python error,
5 a sweep with points that did not finish, 6 MLflow incomplete, 10 GPU out of memory,
11 host out of memory, 12 loss not finite, 13 loss scale stuck, 14 hang, 15 a rank died,
16 disk full, 17 an operator that does not compile, 130 Ctrl-C,
141 output not read to its end, 143 SIGTERM or preempted
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments and arguments[0] in VERBS else ""
    try:
        code = VERBS[verb](arguments[1:] if verb else arguments)
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        from zpipe.terminal.console import print_problems

        print_problems(refusal.problems)
        return Exit.REFUSED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return Exit.PIPE_CLOSED


def _forget_stdout() -> None:
    """Nobody reads any more (`zpipe plan | head`): Python's last flush must not complain about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        return _help(arguments)
    from zpipe.cli.run import run

    return run(arguments)


def _plan(arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        return _help(arguments)
    gc.disable()  # a plan is made in half a second, a third of which would go into looking for garbage
    from zpipe.cli.plan import plan

    code = plan(arguments)
    gc.freeze()
    return code


def _import(arguments: list[str]) -> int:
    from zpipe.cli.import_ import import_

    return import_(arguments)


def _record(arguments: list[str]) -> int:
    from zpipe.cli.record import record

    return record(arguments)


def _diff(arguments: list[str]) -> int:
    from zpipe.cli.diff import diff

    return diff(arguments)


def _sweep(arguments: list[str]) -> int:
    from zpipe.cli.sweep import sweep

    return sweep(arguments)


def _runs(arguments: list[str]) -> int:
    from zpipe.cli.runs import runs

    return runs(arguments)


def _show(arguments: list[str]) -> int:
    from zpipe.cli.show import show

    return show(arguments)


def _report(arguments: list[str]) -> int:
    from zpipe.cli.report import report

    return report(arguments)


def _ui(arguments: list[str]) -> int:
    from zpipe.cli.ui import ui

    return ui(arguments)


def _help(arguments: list[str]) -> int:
    from zpipe.resources import config_groups

    width = max(map(len, config_groups()))
    groups = "\n".join(
        f"  {name:<{width}}  {', '.join(options)}" for name, options in config_groups().items()
    )
    print(USAGE.format(version=__version__, groups=groups), end="")
    return Exit.FINISHED


def _version(arguments: list[str]) -> int:
    print(f"zpipe {__version__}")
    return Exit.FINISHED


VERBS: dict[str, Callable[[list[str]], int]] = {
    "": _run,
    "run": _run,
    "plan": _plan,
    "diff": _diff,
    "import": _import,
    "record": _record,
    "sweep": _sweep,
    "runs": _runs,
    "show": _show,
    "report": _report,
    "ui": _ui,
    "help": _help,
    "--help": _help,
    "-h": _help,
    "--version": _version,
}
