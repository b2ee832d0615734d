"""Options that are in effect also where the user has set a key that outweighs them.

Rules propose options, such as `stage=3`. Beside `stage.stage=1` such an option would change nothing.
"""

from collections.abc import Iterable, Iterator

from zpipe.hydra_text import plain_text
from zpipe.plans.given import Given
from zpipe.problems import Fix, Problem, either
from zpipe.resources import config_groups
from zpipe.schema.auto import Automatic
from zpipe.schema.options import AUTO, DECIDING, deciding_values


def effective(problems: Iterable[Problem], given: Given) -> list[Problem]:
    """The same problems, whose fixes also set the keys that would outweigh them."""
    return [problem._replace(fix=_effective(problem.fix, given)) for problem in problems]


def in_effect(overrides: str, given: Given) -> str:
    """The overrides, with the keys that the user has set otherwise than the options among them."""
    each = overrides.split()
    keys = {override.partition("=")[0] for override in each}
    return " ".join([overrides, *(text for key, text in _outweighing(each, given) if key not in keys)])


def _effective(fix: str, given: Given) -> str:
    before = fix.alternatives if isinstance(fix, Fix) else ()
    after = tuple(in_effect(each, given) for each in before)
    return fix if after == before else either(*after)


def _outweighing(overrides: Iterable[str], given: Given) -> Iterator[tuple[str, str]]:
    for group, _, option in (override.partition("=") for override in overrides):
        is_searched = option == AUTO and group in Automatic.model_fields
        if group in DECIDING and option in config_groups()[group] and not is_searched:
            for key, value in deciding_values(group, option).items():
                if given.outweighs(group, key) and given.value(key) != value:
                    yield key, f"{key}={plain_text(value)}"
