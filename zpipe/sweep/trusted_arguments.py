"""Which arguments of a sweep.json are run again without the user's word: the file may come from anybody."""

import re
from collections.abc import Iterable, Iterator

from zpipe.problems import Problem
from zpipe.resources import config_groups
from zpipe.schema.experiment import Experiment
from zpipe.variables import decides_code

FLAGS = ("-m", "--multirun")
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")
"""Groups whose options are plugins that are installed here."""
_HYDRA_KEY = re.compile(
    r"hydra\.(run\.dir|sweep\.(dir|subdir)|sweeper\.(?!.*_target_)[\w.]+|launcher\.(n_jobs|backend|batch_size|"
    r"verbose|timeout_min|nodes|tasks_per_node|cpus_per_task|gpus_per_node|mem_gb|partition|qos|account))"
)


def problems(arguments: Iterable[str]) -> Iterator[Problem]:
    """A problem for each argument that may execute something, with the command line that repeats it."""
    for argument in arguments:
        if not _is_trusted(argument):
            reason = "sweep.json may come from anybody, and this argument can execute code"
            fix = f"check it, then repeat it: zpipe sweep resume FOLDER '{argument}'"
            yield Problem(argument.partition("=")[0], argument, reason, "overrides of zpipe's groups", fix)


def _is_trusted(argument: str) -> bool:
    if argument in FLAGS:
        return True
    key, equals, value = argument.lstrip("+~").partition("=")
    if "${" in value or "_target_" in argument:
        return False
    if key.startswith("hydra"):
        return bool(equals) and (key in HYDRA_GROUPS or _HYDRA_KEY.fullmatch(key) is not None)
    if key in ("model.trust_remote_code", "resume.trust"):
        return value.lower() != "true"
    if "attn_implementation" in key:
        return "/" not in value  # a kernel of the hub is code
    if key.startswith("launcher.env"):
        return not any(
            decides_code(name) for name in re.findall(r"\w+", argument.removeprefix("launcher.env"))
        )
    return key.partition(".")[0] in {*config_groups(), *Experiment.model_fields}
