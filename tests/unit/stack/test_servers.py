"""Where the servers are."""

from stack.postgres import with_database
from stack.servers import external_addresses


def test_an_empty_address_means_that_the_server_is_started_here() -> None:
    assert external_addresses({"TOCSIN_KAFKA": "", "TOCSIN_REDIS": "redis://cache:6379/1"}) == {
        "redis": "redis://cache:6379/1"
    }


def test_another_database_keeps_the_rest_of_the_address() -> None:
    address = "postgresql://user:secret@db:5433/one?sslmode=require"
    assert with_database(address, "two") == "postgresql://user:secret@db:5433/two?sslmode=require"
