"""The consumer group: workers that read and classify the jobs of their partitions, and what a rebalance does to them.

A worker begins jobs as the real one does: as many are read at a time as there are readers, as many again wait for
the one engine, which answers their pages in turn (classifier_worker/worker.py).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.autoscaling.agenda import Agenda
from benchmarks.autoscaling.load import Jobs
from benchmarks.autoscaling.log import Partition, share_out
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures

Token = tuple[int, int]  #: partition and offset


@dataclass(slots=True)
class Worker:
    """One member of the group."""

    number: int
    is_stopping: bool = False
    is_gone: bool = False
    reading: int = 0
    active: set[Token] = field(default_factory=set)  #: begun, and not finished or given back
    threads: int = 0  #: busy with a job, though it may have been given back meanwhile
    engine_free_at: float = 0.0
    waiting: deque[int] = field(default_factory=deque)  #: its partitions with jobs to begin
    core_seconds: float = 0.0
    counted_at: float = 0.0


class Group:
    """Partitions and members."""

    def __init__(
        self,
        agenda: Agenda,
        jobs: Jobs,
        *,
        partitions: int,
        worker: WorkerFigures,
        cluster: ClusterFigures,
        on_done: Callable[[int], None],
    ) -> None:
        self.partitions = [Partition(number) for number in range(partitions)]
        self.workers: dict[int, Worker] = {}
        self.starts = 0
        self.rebalances = 0
        self._agenda = agenda
        self._pages = jobs.pages.tolist()
        self._read_seconds = jobs.read_seconds.tolist()
        self._home = (jobs.key % partitions).tolist()
        self._figures = worker
        self._cluster = cluster
        self._on_done = on_done
        self._is_queued = [False] * partitions

    def publish(self, job: int) -> None:
        """Append a job to its partition."""
        partition = self.partitions[self._home[job]]
        partition.append(job)
        self._offer(partition)

    def join(self, number: int) -> None:
        """Let a worker that is ready take part."""
        self.workers[number] = Worker(number, counted_at=self._agenda.now)
        self._rebalance()

    def stop(self, number: int, seconds: float, on_gone: Callable[[], None]) -> None:
        """Tell a worker to finish what it has begun within so many seconds and to leave."""
        worker = self.workers[number]
        if worker.is_stopping:
            return
        worker.is_stopping = True
        self._rebalance()
        self._leave_when_done(worker, self._agenda.now + seconds, on_gone)

    def _leave_when_done(self, worker: Worker, deadline: float, on_gone: Callable[[], None]) -> None:
        if worker.active and self._agenda.now < deadline:
            self._agenda.at(min(deadline, self._agenda.now + 1), self._leave_when_done, worker, deadline, on_gone)
            return
        worker.is_gone = True
        for number, offset in sorted(worker.active):
            self._give_back(self.partitions[number], offset)
        worker.active.clear()
        self.count(worker)
        del self.workers[worker.number]
        on_gone()

    def _rebalance(self) -> None:
        self.rebalances += 1
        now = self._agenda.now
        members = [worker.number for worker in self.workers.values() if not worker.is_stopping]
        shares = share_out(self.partitions, members)
        owners = {number: member for member, share in shares.items() for number in share}
        for partition in self.partitions:
            owner = owners.get(partition.number)
            if owner == partition.owner:
                continue
            before, partition.owner = partition.owner, owner
            if before is not None and self._is_queued[partition.number]:
                self.workers[before].waiting.remove(partition.number)
                self._is_queued[partition.number] = False
            pause = self._cluster.rebalance_seconds
            under_way = [] if before is None else self._begun(self.workers[before], partition)
            if under_way:
                pause = max(pause, self._cluster.revoke_drain_seconds)
            partition.opens_at = now + pause
            self._agenda.at(partition.opens_at, self._open, partition, before)

    def _begun(self, worker: Worker, partition: Partition) -> list[int]:
        return sorted(offset for number, offset in worker.active if number == partition.number)

    def _open(self, partition: Partition, before: int | None) -> None:
        """Let the new owner begin; what the old one has not finished is begun again."""
        if before is not None and before != partition.owner and before in self.workers:
            worker = self.workers[before]
            if not worker.is_stopping:  # one that stops has its own deadline for what it began
                for offset in self._begun(worker, partition):
                    worker.active.remove((partition.number, offset))
                    self._give_back(partition, offset)
        self._offer(partition)

    def _give_back(self, partition: Partition, offset: int) -> None:
        partition.give_back(offset)
        self._offer(partition)

    def _offer(self, partition: Partition) -> None:
        """Tell the owner that there is something to begin, and let it begin."""
        owner, number = partition.owner, partition.number
        if owner is None or not partition.has_waiting or self._agenda.now < partition.opens_at:
            return
        worker = self.workers[owner]
        if not self._is_queued[number]:
            self._is_queued[number] = True
            worker.waiting.append(number)
        self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        readers = self._figures.readers
        while worker.waiting and worker.reading < readers and worker.threads < 2 * readers:
            number = worker.waiting.popleft()
            partition = self.partitions[number]
            offset = partition.take()
            self._is_queued[number] = partition.has_waiting
            if partition.has_waiting:
                worker.waiting.append(number)
            self.count(worker)
            self.starts += 1
            worker.reading += 1
            worker.threads += 1
            worker.active.add((number, offset))
            seconds = self._read_seconds[partition.jobs[offset]]
            self._agenda.after(seconds, self._read, worker, partition, offset)

    def _read(self, worker: Worker, partition: Partition, offset: int) -> None:
        """Queue a document's pages for the engine."""
        if worker.is_gone:
            return
        self.count(worker)
        worker.reading -= 1
        figures = self._figures
        work = self._pages[partition.jobs[offset]] / figures.engine_pages_per_second
        worker.engine_free_at = max(worker.engine_free_at, self._agenda.now) + work
        ends_at = max(worker.engine_free_at, self._agenda.now + figures.answer_seconds)
        self._agenda.at(ends_at, self._finish, worker, partition, offset)
        self._begin(worker)

    def _finish(self, worker: Worker, partition: Partition, offset: int) -> None:
        if worker.is_gone:
            return
        worker.threads -= 1
        token = (partition.number, offset)
        if token in worker.active:
            worker.active.remove(token)
            partition.finish(offset)
            self._on_done(partition.jobs[offset])
        self._begin(worker)

    def count(self, worker: Worker) -> None:
        """Bring the worker's processor time up to now: one core for each reader at work and one for the engine."""
        now = self._agenda.now
        span = now - worker.counted_at
        engine = min(max(worker.engine_free_at - worker.counted_at, 0.0), span)
        worker.core_seconds += span * worker.reading + engine
        worker.counted_at = now

    @property
    def lag(self) -> int:
        """Jobs beyond the committed offsets."""
        return sum(partition.lag for partition in self.partitions)
