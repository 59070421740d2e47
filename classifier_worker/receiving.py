"""What both kinds of consumer have in common: the job threads' side of the consume port, on their hand-off."""

from classifier_worker.handoff import Delivery, HandOff


class Receiving:
    """A consumer whose messages job threads receive from its hand-off, and end there."""

    def __init__(self, handoff: HandOff) -> None:
        self._handoff = handoff
        self._failure: BaseException | None = None

    def receive(self, timeout_seconds: float) -> Delivery | None:
        """Return the next message and count it as started; None when none may start within the time."""
        return self._handoff.receive(timeout_seconds)

    def ack(self, delivery: Delivery) -> None:
        """Tell that the message is done with: Kafka need not give it out again."""
        self._handoff.ack(delivery)

    def release(self, delivery: Delivery) -> None:
        """Hand the message back unfinished: whoever is to do it gets it again."""
        self._handoff.release(delivery)

    def reject(self, delivery: Delivery) -> None:
        """Tell that the message is given up (it is in the dead letter topic): done with, and noted by the fuse."""
        self._handoff.reject(delivery)

    def stop_intake(self) -> None:
        """Let no further message start; what is started goes on."""
        self._handoff.stop()

    @property
    def has_failed(self) -> bool:
        """Whether a thread that talks to Kafka ended by an error, which only a new process mends."""
        return self._failure is not None

    def unready_because(self, lost_seconds: float) -> str | None:  # noqa: ARG002  # for what a kind adds
        """Return why no jobs get in; None when they can."""
        return (
            "intake stands still: too many messages ended in the dead letter topic" if self._handoff.is_fused else None
        )
