"""The Plan: everything that was decided about one run, as a value.

It is written to `plan.json` in the run folder before anything is spawned, and it is all that the
workers read. The dry run (`zpipe plan`) ends with it.
"""

from typing import Any, Literal

from zpipe.plans.choice import AutoChoice
from zpipe.plans.flops import TrainingFlops
from zpipe.plans.memory import Fit, MemoryPrediction, Resource
from zpipe.plans.provenance import Provenance
from zpipe.redact import redact_tags, redact_tree, redact_uri
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment


class Notice(Group):
    """Something that the user did not ask about and should know."""

    level: Literal["warning", "advice", "info"]
    key: str
    text: str


class ModelFacts(Group):
    """What is known about the model before it is loaded."""

    name: str
    """For people: the preset, folder or hub id."""
    random_init: bool
    config: dict[str, Any]
    """transformers' configuration, as far as it could be read without a download; {} if not at all."""
    tokenizer: str
    """"bytes" for ByT5's tokenizer, which needs no files; otherwise a folder or hub id."""
    hidden_size: int | None
    parameters: int | None
    """Elements, tied weights counted once."""
    largest_module: int | None = None
    """Most elements of parameters that one module has itself."""


class Host(Group):
    """A machine that one zpipe reaches over ssh."""

    name: str
    slots: list[int]
    """Its GPUs by index, or its processes; never empty."""


class Inputs(Group):
    """Digests of local files that a run reads, from which one that goes on sees that they have changed.

    Null for what is not here, such as a data set of the hub.
    """

    data: str | None = None
    tokenizer: str | None = None


class Launch(Group):
    """How the workers are started."""

    launcher: str
    device: Literal["cuda", "cpu"]
    nproc_per_node: int
    world_size: int
    nodes: int = 1
    gpu_memory: int | None = None
    """Bytes of its GPU that each process may allocate; null is all of it."""
    hosts: list[Host] = []
    """Of the hostfile, those that take part; empty without one."""
    argv: list[str]
    env: dict[str, str]
    """Added to the environment of the parent."""
    files: dict[str, str] = {}
    """Texts that the command reads, by their names in the folder `launch` of the run."""


class Engine(Group):
    """What the worker must find once DeepSpeed's engine has started, beside the JSON itself."""

    optimizer: str
    """Name of the class that updates the parameters, inside ZeRO's own."""
    scheduler: str
    """Name of the class of the learning-rate scheduler."""
    dtype: str
    """Format of the model's parameters: fp32, fp16 or bf16."""


class CheckpointSpace(Group):
    """What the checkpoints of a run are predicted to take on its disk. Null is unknown."""

    bytes: int | None
    """Of one checkpoint."""
    saves: int | None
    """Checkpoints that the run writes."""
    at_once: int | None
    """The most that are on the disk at the same time, with the one that is being written."""
    room: int | None
    """Free bytes of the disk, and what earlier checkpoints of the run take."""


class Plan(Group):
    """One run, decided. Paths are absolute, sizes in bytes, DeepSpeed's counts in elements."""

    format: Literal[1] = 1
    run_dir: str
    versions: dict[str, str]
    """Installed packages that take part, by distribution name."""
    command: list[str]
    """The overrides as the user typed them."""
    experiment: Experiment
    ds_config: dict[str, Any]
    training_arguments: dict[str, Any]
    """Keyword arguments of transformers.TrainingArguments, without `deepspeed`."""
    engine: Engine
    model: ModelFacts
    inputs: Inputs = Inputs()
    launch: Launch
    operators: list[str]
    """DeepSpeed operators that this run loads, and builds on first use, by their builder's NAME."""
    swap_dir: str | None
    """Folder of this run's swap files, removed when the run ends; null without nvme."""
    unresolved: dict[str, str]
    """Dotted JSON keys left at `auto`, each with the reason."""
    notices: list[Notice]
    flops: TrainingFlops | None = None
    """Null if the architecture of the model is not known."""
    checkpoint_space: CheckpointSpace | None = None
    """Null if the run saves no checkpoints."""
    memory: MemoryPrediction | None = None
    """Null where nothing can be predicted, such as for a model that was not downloaded yet."""
    memory_fits: list[Fit] = []
    """Of the GPU, the host and the disk, those whose limit is known."""
    choice: AutoChoice | None = None
    """What GROUP=auto has chosen; null without an automatic group."""
    expected_files: list[str]
    """Relative to run_dir, what a finished run leaves behind."""
    provenance: Provenance = Provenance()
    """Where the values of the experiment and of the JSON came from."""

    @property
    def precision(self) -> str:
        """The training precision with `auto` resolved: fp32, tf32, fp16 or bf16."""
        return "tf32" if self.experiment.precision.dtype == "tf32" else self.engine.dtype

    @property
    def tokens_per_step(self) -> int:
        """Tokens that all devices process in one optimizer step."""
        return self.sequences_per_pass * self.accumulation * self.experiment.data.max_length

    @property
    def micro_batch(self) -> int:
        """Sequences of one micro-batch on one device."""
        return int(self.ds_config["train_micro_batch_size_per_gpu"])

    @property
    def accumulation(self) -> int:
        """Micro-batches between two optimizer steps."""
        return int(self.ds_config["gradient_accumulation_steps"])

    @property
    def sequences_per_pass(self) -> int:
        """Different sequences that all devices process in one micro-batch; AutoTP's groups share theirs."""
        group = self.experiment.deepspeed.tensor_parallel.autotp_size or 1
        return self.micro_batch * (self.launch.world_size // max(1, group))

    def fit_of(self, resource: Resource) -> Fit | None:
        """The predicted memory against what there is; None where the limit is not known."""
        return next((fit for fit in self.memory_fits if fit.resource == resource), None)


_NO_SECRETS = ("run_dir", "swap_dir", "versions", "model")
"""Fields that other programs need as they are; a run whose folder's name has a secret is refused."""


def settings_without_secrets(experiment: Experiment) -> dict[str, Any]:
    """The settings as JSON values, as they may be written and printed."""
    tracking = experiment.tracking
    safe: dict[str, Any] = redact_tree(experiment.model_dump(mode="json"))
    safe["tracking"]["uri"] = redact_uri(tracking.uri) if tracking.uri else None
    safe["tracking"]["tags"] = redact_tags(tracking.tags)
    return safe


def without_secrets(plan: Plan) -> Plan:
    """The plan as it may be written and printed: no passwords in any text, and settings alone in env."""
    values = plan.model_dump()
    places = {name: values[name] for name in values if name not in (*_NO_SECRETS, "experiment")}
    safe = redact_tree(places)
    safe["experiment"] = settings_without_secrets(plan.experiment)
    safe["provenance"] = plan.provenance.without_secrets()
    kept = {name: getattr(plan, name) for name in _NO_SECRETS}
    return Plan.model_validate({**safe, **kept})
