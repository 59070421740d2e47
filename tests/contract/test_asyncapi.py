"""schemas/http/asyncapi.yaml says what the topic catalogue, the .avsc files and the codec say."""

import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import codec, topics
from schemas.events import EVENT_TYPES

HTTP = Path(__file__).parents[2] / "schemas" / "http"
DOCUMENT = yaml.safe_load((HTTP / "asyncapi.yaml").read_text("utf-8"))
MESSAGES = DOCUMENT["components"]["messages"]
GROUPS = {"classifier_worker": topics.WORKER_GROUP, "status_service": topics.STATUS_GROUP}


def resolved(reference: dict[str, str]) -> Any:
    """Return what a `$ref` within the document points to."""
    assert reference["$ref"].startswith("#/")
    target: Any = DOCUMENT
    for part in reference["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def test_there_is_one_channel_per_topic():
    assert [channel["address"] for channel in DOCUMENT["channels"].values()] == [topic.name for topic in topics.TOPICS]


@pytest.mark.parametrize("topic", topics.TOPICS, ids=lambda topic: topic.name)
def test_a_channel_has_its_topics_messages_and_settings(topic):
    channel = next(channel for channel in DOCUMENT["channels"].values() if channel["address"] == topic.name)
    assert [resolved(message)["name"] for message in channel["messages"].values()] == [
        codec.full_name(event_type) for event_type in topic.event_types
    ]
    kafka = channel["bindings"]["kafka"]
    assert (kafka["topic"], kafka["partitions"]) == (topic.name, topic.partitions)
    settings = kafka["topicConfiguration"]
    assert ",".join(settings["cleanup.policy"]) == topic.config["cleanup.policy"]
    assert str(settings["retention.ms"]) == topic.config["retention.ms"]


@pytest.mark.parametrize("topic", topics.TOPICS, ids=lambda topic: topic.name)
def test_operations_say_who_writes_and_reads(topic):
    said: dict[str, set[str]] = {"send": set(), "receive": set()}
    for name, operation in DOCUMENT["operations"].items():
        if resolved(operation["channel"])["address"] == topic.name:
            service = name.split(".")[0]
            said[operation["action"]].add(service)
            if operation["action"] == "receive":
                assert operation["bindings"]["kafka"]["groupId"]["enum"] == [GROUPS[service]]
    assert said["send"] == set(topic.written_by)
    assert said["receive"] == set(topic.read_by) & set(GROUPS)


def test_there_is_one_message_per_event_type():
    assert list(MESSAGES) == [event_type.__name__ for event_type in EVENT_TYPES]


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.__name__)
def test_a_payload_is_the_events_avsc_file(event_type):
    payload = MESSAGES[event_type.__name__]["payload"]
    assert payload["schemaFormat"].startswith("application/vnd.apache.avro")
    schema = json.loads((HTTP / payload["schema"]["$ref"]).read_text("utf-8"))
    assert schema == codec.schema_of(codec.full_name(event_type))


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda event_type: event_type.__name__)
def test_an_example_is_an_event_with_the_headers_that_the_codec_gives_it(event_type):
    (example,) = MESSAGES[event_type.__name__]["examples"]
    fields = {name: _typed(name, value) for name, value in example["payload"].items()}
    event = codec.decode(codec.encode(event_type(**fields)))
    headers = example["headers"]
    source = headers["ce_source"].removeprefix("/docfleet/")
    expected = codec.headers_of(event, source=source, traceparent=headers["traceparent"])
    assert headers == {name: value.decode() for name, value in expected}


def test_documented_headers_are_those_that_are_written():
    properties = DOCUMENT["components"]["schemas"]["EventHeaders"]["properties"]
    (example,) = MESSAGES["ClassificationStarted"]["examples"]
    own = {
        topics.NOT_BEFORE_HEADER,
        topics.DLQ_ERROR_CODE_HEADER,
        topics.DLQ_ERROR_HEADER,
        topics.DLQ_TOPIC_HEADER,
        topics.DLQ_PARTITION_HEADER,
        topics.DLQ_OFFSET_HEADER,
    }
    assert set(properties) == set(example["headers"]) | own


def _typed(name: str, value: Any) -> Any:

    if name == "job_id":
        return uuid.UUID(value)
    if name.endswith("_at"):
        return datetime.fromisoformat(value)
    return tuple(value) if isinstance(value, list) else value
