"""Two workers share the jobs: a group levels the sum of its partitions, whichever topic they are of."""

from collections import Counter

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from docfleet.kafka import consumer_config
from docfleet.settings import KafkaSettings
from schemas import topics
from tests.waiting import eventually_sync


def test_each_of_two_workers_has_a_share_of_the_jobs(kafka: str, unique: str) -> None:
    counts = {f"jobs-{unique}": topics.JOBS.partitions, f"retry-{unique}": topics.RETRY.partitions}
    admin = AdminClient({"bootstrap.servers": kafka})
    made = admin.create_topics([NewTopic(*count, 1) for count in counts.items()])
    for topic in made.values():
        topic.result(10)
    settings = KafkaSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": kafka})
    config = consumer_config(settings, group_id=unique, group_protocol="classic", session_timeout_seconds=6)
    workers = [Consumer(config) for _ in range(2)]

    def shares() -> list[Counter[str]]:
        for worker in workers:
            worker.poll(0.1)
        return [Counter(partition.topic for partition in worker.assignment()) for worker in workers]

    def are_all_given() -> bool:
        found = shares()
        return sum(share.total() for share in found) == sum(counts.values()) and all(found)

    try:
        for worker in workers:
            worker.subscribe(list(counts))
            eventually_sync(lambda: any(shares()))  # one after the other, as workers start
        eventually_sync(are_all_given)
        least = min(share[f"jobs-{unique}"] for share in shares())
        assert least >= topics.JOBS.partitions // 3
    finally:
        for worker in workers:
            worker.close()
