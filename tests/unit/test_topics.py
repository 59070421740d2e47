"""The catalogue of topics."""

from schemas import events, topics
from status_service.projector import READ_TOPICS


def test_every_event_is_in_a_topic_that_somebody_reads():
    carried = {event_type for topic in topics.TOPICS for event_type in topic.event_types}
    assert carried == set(events.EVENT_TYPES)
    assert all(topic.read_by and topic.written_by and topic.purpose for topic in topics.TOPICS)


def test_names_are_those_of_the_contract():
    names = {"docfleet.jobs", "docfleet.events", "docfleet.progress", "docfleet.jobs.retry", "docfleet.jobs.dlq"}
    assert {topic.name for topic in topics.TOPICS} == names


def test_topics_of_a_job_keep_its_messages_in_step():
    """Same key, same number of partitions: a job's events are read by whoever reads its jobs."""
    assert len({topic.partitions for topic in READ_TOPICS}) == 1


def test_projector_reads_all_that_the_rows_are_rebuilt_from():
    read = {event_type for topic in READ_TOPICS for event_type in topic.event_types}
    assert read == set(events.EVENT_TYPES)


def test_config_is_texts_as_a_broker_takes_them():
    config = topics.JOBS.config
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", str(7 * 24 * 60 * 60 * 1000))
    assert all(isinstance(value, str) for topic in topics.TOPICS for value in topic.config.values())
