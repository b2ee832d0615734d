"""Liger's kernels: where they run, what they exclude, and whether the plan chooses them once."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.facts.liger import liger_settings
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either, nearest
from zpipe.schema.experiment import Experiment
from zpipe.schema.kernels import LAYER_KERNELS


def liger_is_chosen_once(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The group `kernels` and TrainingArguments' own name must not contradict each other."""
    asked, named = experiment.train.use_liger_kernel, experiment.kernels.liger
    if asked is None or named is None or asked == facts.liger.is_used:
        return
    because = f", which means false here: {facts.liger.obstacle}" if named == "auto" and asked else ""
    key, reason = "train.use_liger_kernel", f"contradicts kernels.liger={str(named).lower()}{because}"
    yield Problem(key, asked, reason, "null with the group kernels", either(f"{key}=null"))


def liger_can_be_used(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Liger leaves models that it does not know as they are, and says so in its log only."""
    if facts.liger.is_used and facts.liger.obstacle:
        key, off = _switch(experiment)
        reason = f"Liger's kernels cannot be used: {facts.liger.obstacle}"
        yield Problem(key, True, reason, "false", either(off))


def liger_excludes_compilation(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Whole-model compilation crashes, and compiled layers compute wrong gradients without a word."""
    if not (facts.liger.is_used and experiment.train.is_compiled):
        return
    liger = "kernels.liger=false" if experiment.kernels.liger is not None else "train.use_liger_kernel=false"
    if experiment.compile.regional:
        if facts.liger.leaves_layers:
            return
        reason = (
            "compiled layers with Liger's kernels gave losses that are not numbers from the second step on"
        )
        fixes = [_loss_alone(experiment), "compile=none"]
    else:
        reason = "compiling the whole model with Liger's kernels causes an illegal memory access"
        fixes = [liger, *_without_compilation(experiment)]
    yield Problem("train.torch_compile", True, f"{reason} (seen on an H200)", "false", either(*fixes))


def _loss_alone(experiment: Experiment) -> str:
    """The overrides that leave Liger the loss, also where single kernels were turned on."""
    given = experiment.train.liger_kernel_config
    turned_on = [name for name, is_on in given.items() if is_on and name in LAYER_KERNELS]
    return " ".join(["kernels=fused_loss", *(f"~train.liger_kernel_config.{name}" for name in turned_on)])


def _without_compilation(experiment: Experiment) -> list[str]:
    train = experiment.train
    fix = ["compile=none"] if experiment.compile.deepcompile else []
    fix += ["train.torch_compile=false"] if train.torch_compile else []
    fix += ["train.torch_compile_backend=null"] if train.torch_compile_backend is not None else []
    fix += ["train.torch_compile_mode=null"] if train.torch_compile_mode is not None else []
    return [" ".join(fix)]


def liger_settings_need_liger(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers ignores them without Liger."""
    given, key = experiment.train.liger_kernel_config, "train.liger_kernel_config"
    if given and not facts.liger.is_used:
        turned_on = [] if facts.liger.obstacle else ["kernels.liger=true"]
        fix = either(*turned_on, f"~{key}")
        yield Problem(key, given, "only used with Liger's kernels", "{}", fix, ignored=True)


def liger_settings_are_known(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Liger drops names that it does not know without a word."""
    known = liger_settings().get(str(facts.model.config.get("model_type")), frozenset())
    if not (facts.liger.is_used and known):
        return
    given = experiment.train.liger_kernel_config
    for name, value in given.items():
        if name not in known:
            key, near = f"train.liger_kernel_config.{name}", nearest(name, known - {*given})
            right = [f"~{key} +train.liger_kernel_config.{each}={str(value).lower()}" for each in near]
            fixes = [f"~{key}", *right]
            yield Problem(
                key, value, "Liger ignores it", ", ".join(sorted(known)), either(*fixes), ignored=True
            )
    if given.get("cross_entropy") and given.get("fused_linear_cross_entropy", True):
        key = "train.liger_kernel_config.cross_entropy"
        reason = "excludes fused_linear_cross_entropy, which is on by default and needs less memory"
        fixes = [f"~{key}", "++train.liger_kernel_config.fused_linear_cross_entropy=false"]
        yield Problem(key, True, reason, "one of the two", either(*fixes))


def the_fused_loss_alone_is_not_contradicted(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Of kernels.liger=loss, everything else is off."""
    if experiment.kernels.liger != "loss" or not facts.liger.is_used:
        return
    for name, value in experiment.train.liger_kernel_config.items():
        if value == (name in LAYER_KERNELS) and name in (*LAYER_KERNELS, "fused_linear_cross_entropy"):
            key = f"train.liger_kernel_config.{name}"
            reason = "contradicts kernels.liger=loss, which is the fused loss and nothing else"
            yield Problem(key, value, reason, str(not value).lower(), either(f"~{key}", "kernels=liger"))


def notice_liger(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What changes numbers is said, and so is what `auto` has decided."""
    if facts.liger.is_used:
        only_loss = facts.liger.leaves_layers and facts.liger.fuses_loss
        what = "Liger's fused loss replaces" if only_loss else "Liger's kernels replace"
        text = f"{what} transformers' own: the loss is the same up to rounding"
        yield Notice(level="info", key="kernels", text=text)
    elif experiment.kernels.liger == "auto":
        text = f"auto chooses transformers' own kernels, not Liger's: {facts.liger.obstacle}"
        yield Notice(level="info", key="kernels", text=text)


def _switch(experiment: Experiment) -> tuple[str, str]:
    """The key that has turned Liger on, and the override that turns it off."""
    key = "train.use_liger_kernel" if experiment.kernels.liger is None else "kernels.liger"
    return key, f"{key}=false"


ERRORS = (
    liger_is_chosen_once,
    liger_can_be_used,
    liger_excludes_compilation,
    liger_settings_need_liger,
    liger_settings_are_known,
    the_fused_loss_alone_is_not_contradicted,
)
NOTICES = (notice_liger,)
