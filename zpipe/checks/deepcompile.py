"""What is compiled: the whole model, its layers, or DeepCompile's graph with its stage, offload and keys."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

OFFLOADS = ("offload_parameters", "offload_opt_states", "offload_activation")
STAGE_3_ONLY = (*OFFLOADS, "offload_activation_pin_memory")


def deepcompile_needs_compilation(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate calls engine.compile only with torch_compile; without it DeepCompile does nothing."""
    if experiment.compile.deepcompile and not experiment.train.is_compiled:
        yield Problem(
            "compile.deepcompile",
            True,
            "has no effect unless the engine is compiled",
            "true with train.torch_compile",
            either("train.torch_compile=true", "compile.deepcompile=null compile=none"),
            ignored=True,
        )


def regional_needs_compilation(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate compiles nothing without torch_compile."""
    key = "compile.regional"
    if experiment.compile.regional and not experiment.train.is_compiled:
        fix = either("train.torch_compile=true", f"{key}=null")
        reason = "has no effect unless the model is compiled"
        yield Problem(key, True, reason, "true with train.torch_compile", fix, ignored=True)


def regional_excludes_deepcompile(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """accelerate calls either engine.compile or compile_regions_deepspeed (accelerator.py)."""
    if experiment.compile.regional and experiment.compile.deepcompile:
        key, other = "compile.regional", "compile.deepcompile"
        reason = "replaces DeepSpeed's engine.compile, without which DeepCompile does nothing"
        yield Problem(key, True, reason, f"null with {other}", either(f"{key}=null", f"{other}=null"))


def autoep_non_moe_needs_autoep(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """There are no AutoEP layers, and DeepCompile refuses the key (engine.py, compile)."""
    value, key = experiment.compile.autoep_non_moe, "compile.autoep_non_moe"
    if value is not None:
        yield Problem(
            key,
            value,
            "only used with AutoEP, which this run does not use",
            "null",
            either(f"{key}=null"),
            ignored=True,
        )


def compile_keys_need_deepcompile(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The other keys of the block belong to DeepCompile."""
    if experiment.compile.deepcompile:
        return
    others = {"regional", "deepcompile", "autoep_non_moe"}
    for name, value in experiment.compile.given(without=others).items():
        key = f"compile.{name}"
        turn_on = [] if facts.device == "cpu" else [_deepcompile(name, experiment.stage.stage)]
        yield Problem(
            key, value, "only used with DeepCompile", "null", either(f"{key}=null", *turn_on), ignored=True
        )


def _deepcompile(name: str, stage: int) -> str:
    """Turns DeepCompile on, at a stage at which it reads the key."""
    if name in STAGE_3_ONLY and stage < 3:
        return "stage=3 compile=deepcompile"
    return "compile=deepcompile" if stage else "stage=2 compile=deepcompile"


def deepcompile_requirements_are_met(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepCompile schedules CUDA streams of a ZeRO engine through inductor or eager (engine.py, compile)."""
    if not experiment.compile.deepcompile:
        return
    drop = "compile=torch compile.deepcompile=null"
    if facts.device == "cpu":
        yield Problem("compile.deepcompile", True, "needs a CUDA GPU", "null on a CPU", either(drop))
    if experiment.stage.stage == 0:
        yield Problem(
            "compile.deepcompile",
            True,
            "only works at stages 1 to 3",
            "null at stage 0",
            either("stage=2", drop),
        )
    backend = experiment.train.torch_compile_backend
    if backend not in (None, "inductor", "eager"):
        reason = "DeepCompile supports only inductor and eager"
        yield Problem(
            "train.torch_compile_backend",
            backend,
            reason,
            "inductor, eager",
            either("train.torch_compile_backend=inductor"),
        )
    if experiment.deepspeed.managed_gradient_accumulation is False:
        key = "deepspeed.managed_gradient_accumulation"
        yield Problem(key, False, "not supported by DeepCompile", "null", either(f"{key}=null"))


def deepcompile_offload_needs_stage_3(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The passes are only read at stage 3 (deepspeed/compile/init_z3.py)."""
    if not experiment.compile.deepcompile or experiment.stage.stage == 3:
        return
    for name in STAGE_3_ONLY:
        value, key = getattr(experiment.compile, name), f"compile.{name}"
        if value is not None:
            reason = f"DeepCompile ignores it at stage {experiment.stage.stage}"
            yield Problem(
                key, value, reason, "null below stage 3", either("stage=3", f"{key}=null"), ignored=True
            )


def deepcompile_and_zero_offload_do_not_overlap(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Only one of them can move the states, and DeepCompile's pass moves parameters that ZeRO offloads."""
    block, offload = experiment.compile, experiment.offload
    if not block.deepcompile or experiment.stage.stage != 3 or offload.offload_optimizer.device == "none":
        return
    if block.offload_opt_states:
        key = "compile.offload_opt_states"
        reason = "DeepSpeed refuses it, because offload.offload_optimizer manages the same states"
        yield Problem(key, True, reason, "null under offload", either("offload=none", f"{key}=null"))
    on_the_host = offload.offload_param.device == offload.offload_optimizer.device == "cpu"
    if on_the_host and block.offload_parameters is False:
        key = "compile.offload_parameters"
        reason = "DeepSpeed turns it on with offload=cpu"
        yield Problem(key, False, reason, "null or true", either(f"{key}=null", "offload=cpu_optimizer"))


def deepcompile_passes_are_compatible(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """AutoSP and AutoTP change the graph of models that are prepared for them (engine.py)."""
    passes, key = experiment.compile.passes or [], "compile.passes"
    if not experiment.compile.deepcompile:
        return
    if "autosp" in passes:
        reason = "autosp needs sequence parallelism, which this run does not use"
        yield Problem(key, passes, reason, "z1, z3, or autotp", either(f"{key}=null"))
    elif "autotp" in passes and len(passes) > 1:
        yield Problem(
            key,
            passes,
            "autotp cannot be combined with another pass",
            "[autotp], or z1 and z3",
            either(f"{key}=null"),
        )
    elif "autotp" in passes and experiment.deepspeed.tensor_parallel.autotp_size in (None, 0, 1):
        reason = "autotp needs deepspeed.tensor_parallel.autotp_size of 2 or more"
        yield Problem(key, passes, reason, "z1, z3", either(f"{key}=null"))


def deepcompile_offload_passes_are_exclusive(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """All three passes replace the same part of the schedule (deepspeed/compile/config.py)."""
    chosen = [name for name in OFFLOADS if getattr(experiment.compile, name)]
    if len(chosen) > 1:
        yield Problem(
            f"compile.{chosen[0]}",
            True,
            f"incompatible with {', '.join(f'compile.{name}' for name in chosen[1:])}",
            f"one of {', '.join(OFFLOADS)}",
            either(" ".join(f"compile.{name}=null" for name in chosen[1:])),
        )


def notice_compilation(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """What changes numbers is said."""
    same = "the loss is the same up to rounding"
    if experiment.compile.regional:
        text = f"accelerate compiles the layers one by one, in place of DeepSpeed's engine.compile; {same}"
        yield Notice(level="info", key="compile.regional", text=text)
    elif experiment.train.is_compiled:
        text = f"fused operations round once where PyTorch's own round several times; {same}"
        yield Notice(level="info", key="train.torch_compile", text=text)


def advise_on_graph_breaks(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """DeepSpeed excludes the hooks of ZeRO-3 and its checkpoint function from compilation."""
    if not experiment.train.is_compiled or experiment.compile.deepcompile:
        return
    if experiment.stage.stage == 3:
        text = "at stage 3, the hooks that gather parameters split each layer into many small graphs"
        yield Notice(level="advice", key="train.torch_compile", text=text)
    if experiment.activation_checkpointing.enabled:
        text = "with transformers 5.23, layers that DeepSpeed checkpoints are not compiled; "
        text += "activation_checkpointing=transformers compiles them"
        yield Notice(level="warning", key="activation_checkpointing", text=text)


ERRORS = (
    deepcompile_needs_compilation,
    regional_needs_compilation,
    regional_excludes_deepcompile,
    autoep_non_moe_needs_autoep,
    compile_keys_need_deepcompile,
    deepcompile_requirements_are_met,
    deepcompile_offload_needs_stage_3,
    deepcompile_and_zero_offload_do_not_overlap,
    deepcompile_passes_are_compatible,
    deepcompile_offload_passes_are_exclusive,
)
NOTICES = (notice_compilation, advise_on_graph_breaks)
