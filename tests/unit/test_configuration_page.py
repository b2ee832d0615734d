"""docs/configuration.md matches the schema; `make docs` renews it."""

from docs.configuration import PAGE, page
from zpipe.schema.experiment import defaults
from zpipe.trees import leaves


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "docs/configuration.md is stale: run `make docs` and review"


def test_every_key_has_a_row_with_a_meaning() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    described = {row[0].strip("|` "): row[-1].strip("| ") for row in rows}
    keys = {key for key, _ in leaves(defaults())}
    assert keys - described.keys() == set()
    assert [key for key in keys if not described[key]] == []
