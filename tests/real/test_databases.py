"""PostgreSQL and MariaDB as tracking stores: real servers, and a password with special characters."""

from collections.abc import Iterator

import pytest

from campaigns.stores import StoreCheck, checked_store
from tests.conftest import needs
from tests.support.database import DatabaseServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def store(request: pytest.FixtureRequest) -> Iterator[StoreCheck]:
    kind = request.param
    needs(kind, DatabaseServer.is_installed(kind))
    with checked_store(kind) as check:
        yield check


def test_several_first_users_create_one_store(store: StoreCheck) -> None:
    assert store.first_users(4) == ""


def test_a_run_is_recorded(store: StoreCheck) -> None:
    assert store.run() == ""


def test_a_wrong_password_is_said(store: StoreCheck) -> None:
    assert store.wrong_password() == ""


def test_the_password_appears_nowhere(store: StoreCheck) -> None:
    """After the runs of the other tests."""
    assert store.leaks() == ""
