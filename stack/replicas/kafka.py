"""Three Kafka brokers on one machine, each a broker and a controller: every record is on all, two must confirm it."""

import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from stack.kafka import BROKER_PROPERTIES, check_kafka, format_storage, prepared_java
from stack.ports import free_ports
from stack.processes import Processes
from stack.program import ProgramFactory, ProgramSpec, StartupProgress
from stack.topics import admin_client

_COUNT = 3
_HEAP = "256m"


class KafkaBrokers:
    """Three brokers of one cluster, named kafka-1 to kafka-3."""

    def __init__(self, processes: Processes, progress: StartupProgress) -> None:
        self._processes = processes
        self._progress = progress
        ports = free_ports(2 * _COUNT)
        self._ports, self._controller_ports = ports[:_COUNT], ports[_COUNT:]
        self.names = [f"kafka-{number}" for number in range(1, _COUNT + 1)]

    @property
    def address(self) -> str:
        """The bootstrap servers."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def factories(self) -> list[ProgramFactory]:
        """Return how to run each broker."""
        return [partial(self.program, name) for name in self.names]

    def program(self, name: str) -> ProgramSpec:
        """Write a broker's configuration, format its storage on the first start, and return how to run it."""
        number = self.names.index(name) + 1
        data = self._processes.data(name)
        config = data / "server.properties"
        config.write_text(self._properties(number))
        java = prepared_java(self._progress, _HEAP)
        if not (data / "log" / "meta.properties").exists():
            format_storage(java, config)
        port = self._ports[number - 1]
        return ProgramSpec(
            name=name,
            command=(*java, "kafka.Kafka", str(config)),
            files=(config,),
            ports=(port, self._controller_ports[number - 1]),
            check_ready=partial(check_kafka, f"127.0.0.1:{port}"),
            start_timeout=timedelta(seconds=120),
            grace=timedelta(seconds=20),
        )

    def controller(self) -> str:
        """Return the name of the broker that is the active controller, by what the brokers have written down."""
        states = [
            json.loads((self._processes.data(name) / "log" / "__cluster_metadata-0" / "quorum-state").read_text())
            for name in self.names
        ]
        newest = max((one for one in states if one["leaderId"] > 0), key=lambda one: int(one["leaderEpoch"]))
        return self.names[int(newest["leaderId"]) - 1]

    def leader(self, topic: str) -> str:
        """Return the name of the broker that leads the topic's first partition."""
        metadata = admin_client(self.address).list_topics(topic, timeout=5)
        return self.names[metadata.topics[topic].partitions[0].leader - 1]

    def check_joined(self) -> None:
        """Return when the cluster has all brokers."""
        joined = admin_client(self.address).list_topics(timeout=5).brokers
        if len(joined) < _COUNT:
            raise ConnectionError(f"the cluster has {len(joined)} of {_COUNT} brokers")

    def check_in_sync(self) -> None:
        """Return when every partition is on three brokers, all of which have what the leader has."""
        metadata = admin_client(self.address).list_topics(timeout=5)
        for topic in metadata.topics.values():
            for number, partition in topic.partitions.items():
                if len(partition.isrs) < _COUNT:
                    raise ConnectionError(f"{topic.topic} {number}: {len(partition.isrs)} brokers are in sync")

    def _properties(self, number: int) -> str:
        port, controller_port = self._ports[number - 1], self._controller_ports[number - 1]
        log = self._processes.data(self.names[number - 1]) / "log"
        return f"""\
process.roles=broker,controller
node.id={number}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters={_voters(self._controller_ports)}
# Another controller takes over when the active one was silent for this long: by default two seconds, and one more.
controller.quorum.fetch.timeout.ms=1500
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=500
log.dirs={log}
default.replication.factor={_COUNT}
min.insync.replicas={_COUNT - 1}
offsets.topic.replication.factor={_COUNT}
transaction.state.log.replication.factor={_COUNT}
transaction.state.log.min.isr={_COUNT - 1}
share.coordinator.state.topic.replication.factor={_COUNT}
share.coordinator.state.topic.min.isr={_COUNT - 1}
{BROKER_PROPERTIES}"""


def _voters(ports: Sequence[int]) -> str:
    return ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(ports, 1))
