"""The consume port on a Kafka share group (KIP-932): any number of workers on one partition, each record by itself.

A preview: librdkafka 2.16 calls its share consumer that. What it lacks shapes this file:

- A member must acknowledge all it holds before it polls again. So a worker is several members, each with a
  consumer and a thread of its own; a long job holds up its own member only.
- `max.poll.records` is a wish: the broker gives whole batches of a producer. What cannot start within half the
  lock's time is released for others.
- The broker gives a partition to some of the members. Where all of these are of one worker, what that worker releases
  comes back to it, whoever else is idle.
- There is no renewal of a lock. A job is stopped before its lock runs out, and tried again by the retry topic, counted
  as an attempt; a lock that ran out all the same is told by a metric and a line in the log.
- The broker drops a record after so many deliveries. On its last one the message is published again first.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import AcknowledgeType, KafkaError, KafkaException, Message, ShareConsumer

from classifier_worker.consumer import due_at, raw_message, sent_at
from classifier_worker.core.held import Partition, Ticket
from classifier_worker.handoff import RawMessage
from classifier_worker.receiving import Receiving
from classifier_worker.record_handoff import START_SHARE, How, Lock, Member, RecordHandOff
from docfleet import metrics
from docfleet.share_groups import GroupTerms
from docfleet.stopping import Deadline

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
_COMMIT_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 1.0

_TYPES: Final = {
    How.ACCEPT: AcknowledgeType.ACCEPT,
    How.RELEASE: AcknowledgeType.RELEASE,
    How.REJECT: AcknowledgeType.REJECT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOptions:
    """How a worker takes part in a share group.

    `terms` asks the group for its terms, making it ready; KafkaException while no broker answers.
    `carry_over` publishes a message again, durably, before the broker would drop it.
    """

    config: dict[str, Any]
    topics: Sequence[str]
    members: int
    terms: Callable[[], GroupTerms]
    carry_over: Callable[[Partition, RawMessage], None]


class JobShareConsumer(Receiving):
    """Records of a share group, for many job threads; call `start` once, `close` last."""

    def __init__(self, options: ShareOptions, handoff: RecordHandOff) -> None:
        self._options = options
        super().__init__(handoff)
        self._handoff: RecordHandOff = handoff
        self._terms: GroupTerms | None = None
        self._closing = threading.Event()
        self._last_turns: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"kafka-share-{number}", daemon=True)
            for number in range(options.members)
        ]
        self._starter = threading.Thread(target=self._start_members, name="kafka-share-start", daemon=True)

    def start(self) -> None:
        """Join the group and begin to consume, as soon as a broker answers."""
        self._starter.start()

    def close(self, deadline: Deadline) -> bool:
        """Wait for started jobs, acknowledge, leave the group; False when that was not done by the deadline."""
        self.stop_intake()
        is_idle = self._handoff.wait_until_idle(deadline.remaining())
        self._closing.set()
        alive = False
        for thread in [self._starter, *self._threads]:
            if thread.ident is not None:
                thread.join(max(2.0, deadline.remaining()))
                alive = alive or thread.is_alive()
        return is_idle and not alive

    def dead_because(self, silence_seconds: float) -> str | None:
        """Return why a member counts as dead; None while all turn."""
        if self._failure is not None:
            return f"a member of the share group ended: {self._failure}"
        oldest = min(self._last_turns.values(), default=time.monotonic())
        silent_seconds = time.monotonic() - oldest
        return f"a member is silent for {silent_seconds:.0f} s" if silent_seconds > silence_seconds else None

    def unready_because(self, lost_seconds: float) -> str | None:
        """Return why no jobs get in; None when they can."""
        if (fused := super().unready_because(lost_seconds)) is not None:
            return fused
        return None if self._terms is not None else "the share group is not ready"

    def _start_members(self) -> None:
        while not self._closing.is_set():
            try:
                self._terms = self._options.terms()
            except (KafkaException, TimeoutError) as error:
                logger.warning("share group not ready: %s", error, extra={"action": "share_group_unready"})
                self._closing.wait(_RETRY_SECONDS)
            except BaseException as error:
                self._failure = error
                logger.exception("the share group cannot be joined", extra={"action": "consumer_failed"})
                return
            else:
                for thread in self._threads:
                    thread.start()
                return

    def _run(self, number: int) -> None:
        if self._terms is None:
            raise RuntimeError("members start when the group's terms are known")
        try:
            member = _MemberLoop(self._options, self._terms, self._handoff)
            try:
                while not self._closing.is_set():
                    self._last_turns[number] = time.monotonic()
                    member.turn()
                member.hand_back_all()
            finally:
                member.close()
        except BaseException as error:
            self._failure = error
            logger.exception("a member of the share group failed", extra={"action": "consumer_failed"})


class _MemberLoop:
    """One member: polls when it holds nothing, else watches over what it holds. All on one thread."""

    def __init__(self, options: ShareOptions, terms: GroupTerms, handoff: RecordHandOff) -> None:
        self._options = options
        self._terms = terms
        self._handoff = handoff
        self._member = Member()
        self._consumer: Any = ShareConsumer(options.config)
        self._consumer.set_acknowledgement_commit_callback(_on_acknowledged)
        self._consumer.subscribe(list(options.topics))
        self._fetch_began = time.monotonic()

    def turn(self) -> None:
        if self._member.locks or not self._member.ended.empty():
            self._acknowledge_ends(_LOOK_SECONDS)
            self._watch_locks()
            self._handoff.admit_due()
        elif self._handoff.may_poll():
            self._poll()
        else:
            time.sleep(_LOOK_SECONDS)

    def hand_back_all(self) -> None:
        """Release what is not ended; the caller has waited for started jobs."""
        self._acknowledge_ends(0.0)
        for ticket in self._handoff.lose(list(self._member.locks)):
            self._acknowledge(ticket, How.RELEASE)

    def close(self) -> None:
        try:
            self._consumer.commit_sync(_COMMIT_SECONDS)
            self._consumer.close()
        except KafkaException as error:
            logger.warning("leaving the group failed: %s", error, extra={"action": "consumer_close_failed"})

    def _poll(self) -> None:
        # What this poll returns may have been fetched, and locked, since the last one ended.
        locked_since, self._fetch_began = self._fetch_began, time.monotonic()
        messages = list(self._consumer.poll(_POLL_SECONDS))
        lock = Lock(locked_since, self._terms.lock_seconds)
        for message in messages:
            if (error := message.error()) is not None:
                if error.fatal():
                    raise KafkaException(error)
                logger.warning("consume error: %s", error.str(), extra={"action": "consume_error"})
                continue
            self._take(message, lock)

    def _take(self, message: Message, lock: Lock) -> None:
        place, offset = (str(message.topic()), message.partition() or 0), message.offset() or 0
        ticket = self._handoff.acquire(self._member, place, offset, lock)
        raw = raw_message(message)
        if offset < self._terms.done_before.get(place, 0):  # by the consumer group, before this group was made
            self._end(ticket, How.ACCEPT)
        elif (message.delivery_count() or 1) >= self._terms.deliveries_max:
            self._end(ticket, self._carry_over(ticket, raw))
        else:
            self._handoff.offer(ticket, raw, due_at(raw, sent_at(message)))

    def _carry_over(self, ticket: Ticket, raw: RawMessage) -> How:
        """Publish the message again, whatever that takes, and return its end: after this delivery the broker drops it.

        One that is too large for us, such as one that was compressed by a client with other limits, is given up.
        """
        while True:
            try:
                self._options.carry_over(ticket.partition, raw)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    extra = {"action": "carry_over_given_up", "partition": ticket.partition, "offset": ticket.offset}
                    logger.error("not carried over, given up: %s", error, extra=extra)  # noqa: TRY400  # says it all
                    return How.REJECT
                if self._handoff.is_stopped:
                    raise
                logger.warning("not carried over yet: %s", error, extra={"action": "carry_over_failed"})
                time.sleep(_RETRY_SECONDS)
            else:
                metrics.SHARE_RECORDS.labels("carried_over").inc()
                return How.ACCEPT

    def _end(self, ticket: Ticket, how: How) -> None:
        for gone in self._handoff.withdraw([ticket]):
            self._acknowledge(gone, how)

    def _acknowledge_ends(self, wait_seconds: float) -> None:
        """Send on what has ended; waits for the first end."""
        is_any = False
        try:
            ticket, how = (
                self._member.ended.get(timeout=wait_seconds) if wait_seconds else self._member.ended.get_nowait()
            )
            while True:
                self._acknowledge(ticket, how)
                is_any = True
                ticket, how = self._member.ended.get_nowait()
        except queue.Empty:
            pass
        if is_any:
            self._consumer.commit_async()

    def _watch_locks(self) -> None:
        now = time.monotonic()
        locks = dict(self._member.locks)
        is_stopped = self._handoff.is_stopped
        late = [ticket for ticket, lock in locks.items() if is_stopped or lock.is_over(now, START_SHARE)]
        released = self._handoff.withdraw(late)
        for ticket in released:
            self._acknowledge(ticket, How.RELEASE)
        lost = self._handoff.lose([ticket for ticket, lock in locks.items() if lock.is_over(now)])
        for ticket in lost:
            metrics.SHARE_RECORDS.labels("lock_lost").inc()
            delivery = self._handoff.started(ticket)
            with delivery.as_subject() if delivery else nullcontext():
                logger.warning(
                    "a record's lock ran out while its job was running: it is done again elsewhere",
                    extra={"action": "lock_lost", "partition": ticket.partition, "offset": ticket.offset},
                )
            self._acknowledge(ticket, How.RELEASE)
        if released or lost:
            metrics.SHARE_RECORDS.labels("released").inc(len(released))
            self._consumer.commit_async()

    def _acknowledge(self, ticket: Ticket, how: How) -> None:
        topic, partition = ticket.partition
        try:
            self._consumer.acknowledge_offset(topic, partition, ticket.offset, _TYPES[how])
        except KafkaException as error:
            logger.warning("not acknowledged: %s", error, extra={"action": "acknowledge_failed"})


def _on_acknowledged(offsets: dict[Any, set[int]], error: KafkaError | KafkaException | None) -> None:
    if error is not None:
        metrics.SHARE_RECORDS.labels("not_acknowledged").inc(sum(len(some) for some in offsets.values()))
        logger.warning("the broker did not take acknowledgements: %s", error, extra={"action": "acknowledge_failed"})
