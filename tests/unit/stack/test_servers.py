"""Where the servers are."""

import pytest

from stack.postgres import with_database
from stack.servers import external_addresses, topic_replicas
from stack.topics import BROKER_DEFAULT


def test_an_empty_address_means_that_the_server_is_started_here() -> None:
    assert external_addresses({"TOCSIN_KAFKA": "", "TOCSIN_REDIS": "redis://cache:6379/1"}) == {
        "redis": "redis://cache:6379/1"
    }


def test_another_database_keeps_the_rest_of_the_address() -> None:
    address = "postgresql://user:secret@db:5433/one?sslmode=require"
    assert with_database(address, "two") == "postgresql://user:secret@db:5433/two?sslmode=require"


@pytest.mark.parametrize(
    ("name", "address", "expected", "shown"),
    [
        ("TOCSIN_KAFKA", "foo", "host:port", "foo"),
        ("TOCSIN_POSTGRES", "foo", "postgresql://user:password@host:port/name", "foo"),
        (
            "TOCSIN_POSTGRES",
            "mysql://u:p/w@h:1/x?password=s",
            "postgresql://user:password@host:port/name",
            "mysql://…h:1/x?…",
        ),
        ("TOCSIN_REDIS", "bar", "redis://user:password@host:port/name", "bar"),
        ("TOCSIN_REDIS", "user:secret@bar:6379", "redis://user:password@host:port/name", "…bar:6379"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(name: str, address: str, expected: str, shown: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be {expected}") as refused:
        external_addresses({name: address})
    assert str(refused.value).endswith(f', found "{shown}"')


def test_topics_have_as_many_replicas_as_said_and_otherwise_as_the_brokers_say() -> None:
    assert topic_replicas({"TOCSIN_KAFKA_REPLICAS": "3"}) == 3
    assert topic_replicas({"TOCSIN_KAFKA_REPLICAS": ""}) == topic_replicas({}) == BROKER_DEFAULT


@pytest.mark.parametrize("text", ["0", "-1", "three"])
def test_a_number_of_replicas_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"TOCSIN_KAFKA_REPLICAS: found {text}, expected a number of brokers"):
        topic_replicas({"TOCSIN_KAFKA_REPLICAS": text})
