"""`zpipe --help`: all verbs, config groups and exit codes."""

from collections.abc import Iterable

from zpipe import __version__
from zpipe.resources import config_groups
from zpipe.terminal.console import show

_TEXT = """\
zpipe {version}: declarative DeepSpeed fine-tuning, recorded in MLflow

{verbs}

Overrides
  GROUP=OPTION               choose an option, e.g. stage=3 offload=nvme precision=bf16
  GROUP.KEY=VALUE            set a value, e.g. stage.reduce_bucket_size=5e8 train.max_steps=100
  recipe=NAME|FILE.yaml      an experiment in its own file
  resume=RUN_FOLDER          go on with a run from its newest intact checkpoint

Groups and options
{groups}

Hydra's own flags work as in Hydra's documentation: --cfg job|hydra|all, --info, -m/--multirun,
--hydra-help, hydra/launcher=joblib, hydra/sweeper=optuna, hydra.run.dir=FOLDER …
`zpipe VERB --help` describes the arguments of a verb.

Exit codes: 0 finished, 2 refused input, 3 something missing on this machine or unreachable,
4 a Python error, 5 a sweep with points to run again, 6 MLflow incomplete,
10 GPU out of memory, 11 host out of memory, 12 loss not finite, 13 loss scale stuck, 14 hang,
15 a rank died, 16 disk full, 17 an operator that does not compile, 130 Ctrl-C,
141 output closed by its reader, 143 SIGTERM or preempted
"""

_RUN = {
    "[OVERRIDES]": "compose, check, compile, train, record",
    "-m [OVERRIDES]": "the same for every combination of comma-separated lists",
}
_WIDTH = 26


def print_overview(verbs: Iterable[dict[str, str]]) -> None:
    """Prints the help; `verbs` has the OVERVIEW of each verb."""
    lines = [_line(usage, text) for overview in (_RUN, *verbs) for usage, text in overview.items()]
    groups = config_groups()
    width = max(map(len, groups))
    options = (f"  {name:<{width}}  {', '.join(names)}" for name, names in groups.items())
    show(_TEXT.format(version=__version__, verbs="\n".join(lines), groups="\n".join(options)), end="")


def _line(usage: str, text: str) -> str:
    """An indented usage is an option of the verb in the line before."""
    left = usage if usage.startswith(" ") else f"zpipe {usage}"
    return f"  {left:<{_WIDTH}} {text}"
