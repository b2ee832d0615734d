"""What a recipe changes of the checks of a plan: anybody may have written it, so the plan says it."""

from collections.abc import Iterator

from zpipe.machine.cards import GROUP, HERE
from zpipe.plans.plan import Notice
from zpipe.plans.provenance import Provenance
from zpipe.resources import CONF
from zpipe.schema.experiment import Experiment


def recipe_notices(experiment: Experiment, provenance: Provenance) -> Iterator[Notice]:
    """A warning for each check that a recipe leaves out or makes against another machine.

    Recipes may include others, so every file that is not zpipe's own counts.
    """
    for source, settings in _described(provenance).items():
        text = (
            f"{source} sets {', '.join(settings)}: the plan is checked against the machine that it describes"
        )
        yield Notice(level="warning", key=GROUP, text=text)
    if experiment.memory.check == "warn" and (file := _file_that_sets(provenance, "memory.check")):
        text = f"{file} sets it to warn: a plan that is predicted not to fit is not refused"
        yield Notice(level="warning", key="memory.check", text=text)
    if experiment.strict is False and (file := _file_that_sets(provenance, "strict")):
        text = f"{file} sets it to false: differences from DeepSpeed's settings do not end the run"
        yield Notice(level="warning", key="strict", text=text)


def _described(provenance: Provenance) -> dict[str, list[str]]:
    """By file, what it sets of the machine."""
    found: dict[str, list[str]] = {}
    choice = provenance.options.get(GROUP)
    if choice is not None and choice.option != HERE and _is_foreign(choice.chosen_by):
        found.setdefault(choice.chosen_by, []).append(f"{GROUP}={choice.option}")
    for key, chain in provenance.experiment.items():
        if key.startswith(f"{GROUP}.") and chain[-1].value is not None and _is_foreign(chain[-1].source):
            found.setdefault(chain[-1].source, []).append(f"{key}={chain[-1].value}")
    return found


def _file_that_sets(provenance: Provenance, key: str) -> str | None:
    chain = provenance.chain(key)
    return chain[-1].source if chain and _is_foreign(chain[-1].source) else None


def _is_foreign(source: str) -> bool:
    """Whether this is a file, and none of zpipe's own."""
    return source.endswith((".yaml", ".yml")) and not source.startswith(f"{CONF.name}/")
