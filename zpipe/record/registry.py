"""Registers an exported model in MLflow's model registry by its path: no weights are uploaded.

What is uploaded is an MLmodel file of the flavor `transformers`, which names the folder as its base model,
and the files of the tokenizer. mlflow.transformers.load_model then reads the weights from the folder
(mlflow/transformers/model_io.py, load_model_and_components_from_local_base_path).
"""

import json
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.client import open_client, reporting_failures
from zpipe.record.database import require_answer
from zpipe.record.evaluations import log_evaluation
from zpipe.record.models import NO_MODELS, PATH_TAG, STEP_TAG, has_models
from zpipe.record.record_run import uri_of
from zpipe.record.state import read_state
from zpipe.record.store import check_store, resolve_uri
from zpipe.redact import redact_uri
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.plan_file import read_plan_here
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

OPTION = "--register"
_NAME = re.compile(r"[^/:\0]{1,256}")
_VERSIONS_TAG = "mlflow.modelVersions"
"""Where MLflow's page of a model finds its versions (mlflow/utils/mlflow_tags.py)."""
_TASK = "text-generation"
_TOKENIZER = Path("components", "tokenizer")
"""Where MLflow looks for it among the artifacts."""
_WEIGHTS = ".safetensors"
_TORCH_DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}


@dataclass(frozen=True)
class Registry:
    """A name in the registry of the store that has the run."""

    name: str
    uri: str
    run_id: str
    experiment_id: str
    folder: RunFolder

    @classmethod
    def of(cls, folder: RunFolder, name: str, uri: str | None) -> Self:
        """Raises Refusal for a bad name, or a run that MLflow does not have; StoreUnreachable."""
        if not _NAME.fullmatch(name):
            raise Refusal([Problem(OPTION, name, "not a name for a model", "text without / and :")])
        base = Path.cwd()
        store = (
            resolve_uri(uri, base)
            if uri is not None
            else uri_of(read_plan_here(folder), folder, base, "zpipe export RUN --register NAME")
        )
        state = read_state(folder)
        state = None if state is None else state.in_store(redact_uri(store))
        if state is None or state.run_id is None or state.experiment_id is None:
            where = "" if uri is None else f" --uri {redact_uri(uri)}"
            command = f"zpipe record {shlex.quote(str(folder.path))}{where}"
            fix = f"{command}, if it was recorded at all (tracking.enabled=true)"
            raise Refusal([Problem(OPTION, name, "MLflow does not have this run", fix=fix)])
        refuse_if_any(check_store(store))
        with reporting_failures(store):
            require_answer(store)
        return cls(name, store, state.run_id, state.experiment_id, folder)

    def register(self, exported: Path, step: int, dtype: str) -> str:
        """Makes a new version of the name, and returns its URI. Raises StoreUnreachable."""
        with reporting_failures(self.uri):
            client = open_client(self.uri)
            if not has_models(client, self.experiment_id):
                raise Refusal([Problem(OPTION, self.name, NO_MODELS)])
            model = self._log(client, exported, step, dtype)
            self._create_name(client)
            # Not models:/ID, which MLflow looks up in the store that is set for the whole process.
            made = client.create_model_version(
                self.name,
                model.artifact_location,
                run_id=self.run_id,
                tags={PATH_TAG: str(exported)},
                model_id=model.model_id,
            )
            versions = json.dumps([{"name": made.name, "version": made.version}])
            client.set_logged_model_tags(model.model_id, {_VERSIONS_TAG: versions})
        return f"models:/{made.name}/{made.version}"

    def _log(self, client: "MlflowClient", exported: Path, step: int, dtype: str) -> "LoggedModel":
        """The exported folder as a model of the run, with the evaluation of its step."""
        from mlflow.entities import LoggedModelOutput

        model = client.create_logged_model(
            self.experiment_id,
            name=f"export-{step}-{dtype}",
            source_run_id=self.run_id,
            tags={PATH_TAG: str(exported), STEP_TAG: str(step), "zpipe.dtype": dtype},
            model_type="export",
        )
        with tempfile.TemporaryDirectory() as scratch:
            _describe(Path(scratch), model, exported, dtype)
            client.log_model_artifacts(model.model_id, scratch)
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
        evaluations = RunProgress.of(RunEvents(self.folder).read_new()).evaluations
        log_evaluation(client, self.run_id, model.model_id, evaluations.get(step, []))
        return client.get_logged_model(model.model_id)

    def _create_name(self, client: "MlflowClient") -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _describe(target: Path, logged: "LoggedModel", exported: Path, dtype: str) -> None:
    """Writes what MLflow needs to load the model.

    Only classes of transformers are named, so that MLflow trusts no code beside the weights.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types.schema import ColSpec, Schema

    tokenizer = target / _TOKENIZER
    tokenizer.mkdir(parents=True)
    for file in exported.iterdir():
        if file.is_file() and not file.name.endswith((_WEIGHTS, f"{_WEIGHTS}.index.json")):
            shutil.copyfile(file, tokenizer / file.name)
    text = Schema([ColSpec("string")])
    model = Model(
        signature=ModelSignature(inputs=text, outputs=text),
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=logged.source_run_id,
    )
    model.add_flavor(
        "transformers",
        transformers_version=version("transformers"),
        code=None,
        task=_TASK,
        instance_type="TextGenerationPipeline",
        pipeline_model_type="AutoModelForCausalLM",
        source_model_name=str(exported),
        local_base_model_path=str(exported),
        torch_dtype=_TORCH_DTYPES[dtype],
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    add_to_model(model, loader_module="mlflow.transformers")  # type: ignore[no-untyped-call]
    model.save(str(target / "MLmodel"))
