"""What a recipe changes of the checks of a plan: anybody may have written it, so the plan says it."""

from collections.abc import Callable, Iterator

from zpipe.machine.cards import GROUP, HERE
from zpipe.plans.plan import Notice
from zpipe.plans.provenance import Provenance
from zpipe.schema.experiment import Experiment


def recipe_notices(experiment: Experiment, provenance: Provenance) -> Iterator[Notice]:
    """A warning for each check that the recipe leaves out or makes against another machine."""
    recipe = provenance.options.get("recipe")
    if recipe is None:
        return

    def sets(key: str) -> bool:
        chain = provenance.chain(key)
        return bool(chain) and chain[-1].source == recipe.file

    described = ", ".join(_described(provenance, recipe.file, sets))
    if described:
        text = f"{recipe.file} sets {described}: the plan is checked against the machine that it describes"
        yield Notice(level="warning", key=GROUP, text=text)
    if experiment.memory.check == "warn" and sets("memory.check"):
        text = f"{recipe.file} sets it to warn: a plan that is predicted not to fit is not refused"
        yield Notice(level="warning", key="memory.check", text=text)
    if experiment.strict is False and sets("strict"):
        text = f"{recipe.file} sets it to false: differences from DeepSpeed's settings do not end the run"
        yield Notice(level="warning", key="strict", text=text)


def _described(provenance: Provenance, file: str, sets: Callable[[str], bool]) -> Iterator[str]:
    choice = provenance.options.get(GROUP)
    if choice is not None and choice.chosen_by == file and choice.option != HERE:
        yield f"{GROUP}={choice.option}"
    for key, chain in provenance.experiment.items():
        if key.startswith(f"{GROUP}.") and sets(key) and chain[-1].value is not None:
            yield f"{key}={chain[-1].value}"
