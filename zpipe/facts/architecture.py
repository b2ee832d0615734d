"""What the installed transformers knows about a model type, read from its source files without importing it.

Importing transformers' models imports torch, which planning never does. Only text is read: the
tables of models/auto/, class attributes and losses of modeling_*.py, and fields of configuration_*.py.
"""

import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

_PAIR = re.compile(r'\(\s*"([^"]+)",\s*"([^"]+)",?\s*\)')
_FIELD = re.compile(r"^    (\w+)\s*:[^=\n]+(?:=\s*(.+))?$", re.MULTILINE)
_TYPED = re.compile(r"^    (\w+): ([^=\n]+?)(?: =.*)?$", re.MULTILINE)
_STRICT = re.compile(r"^@strict\n", re.MULTILINE)
_ARGUMENT = re.compile(r"^        (\w+)(?:\s*:[^=\n]+)?=(.+?),?$", re.MULTILINE)
_DOCSTRING = re.compile(r'r?""".*?"""', re.DOTALL)
_SHIFT = re.compile(r"labels\[(?:\.\.\.|:), 1:")
_RENAMED = re.compile(r'"(\w+)":\s*"(\w+)"')


@dataclass(frozen=True)
class Architecture:
    """One model type of transformers."""

    model_type: str
    configuration: str
    """Source of the configuration class."""
    modeling: str
    """Source of the modeling file."""
    is_strict: bool = False
    """Whether the configuration refuses values of another type than its fields have."""

    def declares(self, attribute: str) -> bool:
        """Whether a model class sets this attribute, such as `_supports_sdpa`, to True."""
        return re.search(rf"^    {attribute}(?:: bool)? = True", self.modeling, re.MULTILINE) is not None

    def reads(self, name: str) -> bool:
        """Whether the modeling file takes this attribute of the configuration, which need not declare it."""
        found = re.search(rf'config\.{re.escape(name)}\b|config, "{re.escape(name)}"', self.modeling)
        return found is not None

    def activates_with(self, name: str) -> bool:
        """Whether a layer looks this key up among the activations."""
        return f"ACT2FN[config.{name}]" in self.modeling

    @property
    def checks_heads(self) -> bool:
        """Whether the configuration refuses a hidden size that is not a multiple of the attention heads."""
        return "is not a multiple of the num" in self.configuration

    def shifts_labels(self, model_class: str) -> bool:
        """Whether the loss compares the logits at each position with the label of the next one.

        Models that leave the shift to the caller learn to copy their input.
        """
        body = re.search(rf"^class {model_class}\(.*?(?=^class |\Z)", self.modeling, re.MULTILINE | re.DOTALL)
        code = _DOCSTRING.sub("", body[0] if body is not None else self.modeling)
        return "self.loss_function(" in code or _SHIFT.search(code) is not None

    @property
    def aliases(self) -> dict[str, str]:
        """Other names that the configuration takes for its fields."""
        return dict(_RENAMED.findall(self.configuration.partition("attribute_map")[2].partition("}")[0]))

    @property
    def fields(self) -> dict[str, str]:
        """The names that the configuration takes, with the source of their defaults."""
        found = dict(_FIELD.findall(self.configuration))
        start = self.configuration.partition("def __init__(")[2].partition("):")[0]
        found |= dict(_ARGUMENT.findall(start))
        return found | {name: found.get(target, "") for name, target in self.aliases.items()}

    @cached_property
    def types(self) -> dict[str, str]:
        """By name, the types in Python that the configuration takes; empty if it takes others too."""
        found = dict(_TYPED.findall(self.configuration)) if self.is_strict else {}
        aliases = self.aliases | {"rope_scaling": "rope_parameters"}
        return found | {name: found[target] for name, target in aliases.items() if target in found}

    def default_id(self, name: str) -> int | None:
        """The whole number that is the default of a field."""
        value = self.fields.get(name, "").strip()
        return int(value) if value.isdecimal() else None


@cache
def architecture(model_type: str) -> Architecture | None:
    """None if transformers is not installed or does not have the model type."""
    models = _models()
    if models is None or not re.fullmatch(r"[\w.-]+", model_type):
        return None
    module = special_modules().get(model_type, model_type.replace("-", "_"))
    configuration = models / module / f"configuration_{module}.py"
    modeling = models / module / f"modeling_{module}.py"
    if not configuration.is_file() or not modeling.is_file():
        return None
    text = configuration.read_text(encoding="utf-8")
    own, code = _class_of(text, model_type), modeling.read_text(encoding="utf-8")
    return Architecture(model_type, own, code, _STRICT.search(text) is not None)


@cache
def causal_types() -> dict[str, str]:
    """Model types that AutoModelForCausalLM loads, with their classes; empty without transformers."""
    return _table("modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")


@cache
def known_types() -> dict[str, str]:
    """Model types that AutoConfig loads, with their configuration classes; empty without transformers."""
    return _table("auto_mappings.py", "CONFIG_MAPPING_NAMES") or _table(
        "configuration_auto.py", "CONFIG_MAPPING_NAMES"
    )


@cache
def special_modules() -> dict[str, str]:
    """Model types whose folder has another name."""
    name = "SPECIAL_MODEL_TYPE_TO_MODULE_NAME"
    return _table("auto_mappings.py", name) or _table("configuration_auto.py", name)


@cache
def activations() -> frozenset[str]:
    """Names of activations (activations.py); empty without transformers."""
    table = _source("activations.py").partition("\nACT2CLS = {")[2].partition("\n}")[0]
    return frozenset(re.findall(r'^    "(\w+)":', table, re.MULTILINE))


@cache
def rope_types() -> dict[str, frozenset[str]]:
    """Kinds of rotary embeddings with the keys that they need (modeling_rope_utils.py)."""
    text = _source("modeling_rope_utils.py")
    table = text.partition("\nROPE_INIT_FUNCTIONS")[2].partition("\n}")[0]
    return {
        name: _needed(text, name) for name in ["default", *re.findall(r'^    "(\w+)":', table, re.MULTILINE)]
    }


def _needed(text: str, kind: str) -> frozenset[str]:
    """Without those that have defaults."""
    body = text.partition(f"def _validate_{kind}_rope_parameters(")[2].partition("\n    def ")[0]
    keys = re.search(r"required_keys = \{(.*?)\}", body, re.DOTALL)
    found = re.findall(r'"(\w+)"', keys[1]) if keys else []
    return frozenset(found) - {"rope_type", "rope_theta", "original_max_position_embeddings"}


@cache
def common_fields() -> frozenset[str]:
    """Names that every configuration takes (configuration_utils.py)."""
    text = _source("configuration_utils.py")
    body = text.partition("class PreTrainedConfig")[2].partition("\nclass ")[0]
    arguments = body.partition("def __init__(")[2].partition("):")[0]
    popped = re.findall(r'kwargs\.pop\("(\w+)"', body)
    names = [name for name, _ in (*_FIELD.findall(body), *_ARGUMENT.findall(arguments))]
    return frozenset([*names, *popped])


def _models() -> Path | None:
    spec = find_spec("transformers")
    return Path(spec.origin).parent / "models" if spec is not None and spec.origin is not None else None


def _source(name: str) -> str:
    """Of a file of transformers; empty without it."""
    models = _models()
    file = models.parent / name if models is not None else None
    return file.read_text(encoding="utf-8") if file is not None and file.is_file() else ""


def _table(file: str, name: str) -> dict[str, str]:
    text = _source(f"models/auto/{file}").partition(f"\n{name} = ")[2]
    return dict(_PAIR.findall(text.partition("\n)")[0]))


def _class_of(text: str, model_type: str) -> str:
    """The class that has this model_type, with all after its header."""
    classes = re.split(r"^(?=class )", text, flags=re.MULTILINE)
    own = [
        each
        for each in classes
        if re.search(rf'^    model_type = "{re.escape(model_type)}"', each, re.MULTILINE)
    ]
    return own[0] if own else text
