"""Where each part stands more than once, alerts go on without any one of them. The long form is `make failover`."""

from pathlib import Path

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]  # re-exported

from cli.exercise.campaign import run_campaign
from cli.exercise.replicated import running_replicas
from services.contract.topics import LOG_EVENTS
from stack.topics import admin_client

PARTS = ["kafka-broker", "postgres-primary", "redis-primary", "redis-node", "rolling-restart", "machine"]


def replication_of(topic: str, brokers: str) -> tuple[int, str]:
    """Return on how many brokers the topic is, and how many must confirm a record."""
    client = admin_client(brokers)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    needed = client.describe_configs([resource])[resource].result()["min.insync.replicas"].value
    return len(client.list_topics(topic, timeout=10).topics[topic].partitions[0].replicas), str(needed)


@pytest.mark.timeout(900)
def test_a_rolling_restart_fails_no_call_and_no_lost_server_or_machine_loses_or_doubles_an_alert(
    tmp_path: Path,
) -> None:
    # With certificates and keys, as in production; the long form is without them unless ARGS say --secure.
    with running_replicas(tmp_path / "run", print, is_secure=True) as target:
        assert replication_of(LOG_EVENTS, target.brokers) == (3, "2")
        rows = run_campaign(target, PARTS, print)
    assert [row.part for row in rows] == ["", *PARTS]
    assert all(row.is_well for row in rows), rows
    assert all(row.probes for row in rows), rows
    assert [row.part for row in rows if row.calls] == ["rolling-restart"], rows
