"""The simulated fleet: no job is lost, whatever comes and goes, and the same seed gives the same day."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoscaling.charts import REPLICAS, draw
from benchmarks.autoscaling.keda import Fallback, ScaledObject, Trigger
from benchmarks.autoscaling.load import Day, Jobs, make_jobs
from benchmarks.autoscaling.log import Partition, share_out
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures
from benchmarks.autoscaling.report import figures_of
from benchmarks.autoscaling.world import Fleet, Outcome, World

WORKER = WorkerFigures(readers=2, load_seconds=20, slow_share=0.05)
CLUSTER = ClusterFigures(node_seconds=30, node_idle_seconds=60, spot_life_seconds=120, spot_raid_at=900.0)
DAY = Day(seconds=1800, tenants=3, peak_per_second=0.5, bursts=1, burst_jobs=(50, 80), drop_jobs=100, drop_at=600)
KEDA = ScaledObject(
    triggers=(Trigger("jobs", 20), Trigger("held-back", 20), Trigger("oldest-job", 60, 30)),
    most=5,
    polling_seconds=15,
    cooldown_seconds=60,
    fallback=Fallback(3, 2, "currentReplicasIfHigher"),
)
FLEET = Fleet(name="small", partitions=6, keda=KEDA, tenant_jobs_in_flight=30)


def run(fleet: Fleet, *, seed: int = 1, cluster: ClusterFigures = CLUSTER) -> tuple[Outcome, World, Jobs]:
    jobs = make_jobs(DAY, WORKER, seed=seed)
    world = World(fleet, jobs, worker=WORKER, cluster=cluster, seconds=DAY.seconds, seed=seed)
    return world.run(), world, jobs


fleets = st.builds(
    lambda partitions, floor, most, limit, outage, cooldown: Fleet(
        name="drawn",
        partitions=partitions,
        floor=floor,
        keda=replace(KEDA, most=most, cooldown_seconds=cooldown),
        tenant_jobs_in_flight=limit,
        outage=(600.0, 900.0) if outage else None,
    ),
    st.integers(1, 12),
    st.integers(0, 2),
    st.integers(1, 8),
    st.sampled_from([0, 5, 50]),
    st.booleans(),
    st.sampled_from([0.0, 60.0]),
)


@settings(max_examples=25, deadline=None)
@given(fleets, st.integers(0, 1000))
def test_every_job_is_done_once_and_the_fleet_keeps_its_bounds(fleet: Fleet, seed: int) -> None:
    outcome, world, jobs = run(fleet, seed=seed)
    assert not np.isnan(outcome.waits).any()
    assert (outcome.waits >= jobs.read_seconds).all(), "done before it can have been read"
    assert outcome.starts >= len(jobs)
    assert world.group.lag == 0
    assert all(partition.committed == len(partition.jobs) for partition in world.group.partitions)
    assert sum(len(partition.jobs) for partition in world.group.partitions) == len(jobs)
    assert fleet.keda is not None
    assert max(sample.wanted for sample in outcome.samples) <= fleet.floor + fleet.keda.most
    assert outcome.most_ready <= fleet.floor + fleet.keda.most


def test_same_seed_gives_the_same_day_and_the_same_chart() -> None:
    (one, _, jobs), (again, _, _), (other, _, _) = run(FLEET), run(FLEET), run(FLEET, seed=2)
    assert figures_of(one, jobs, DAY) == figures_of(again, jobs, DAY)
    charts = [draw([outcome], REPLICAS, title="t", is_log=False) for outcome in (one, again, other)]
    assert charts[0] == charts[1] != charts[2]


def test_fleet_goes_to_none_and_comes_back() -> None:
    outcome, _, _ = run(FLEET)
    ready = [sample.ready for sample in outcome.samples]
    assert ready[0] == 0
    assert max(ready) > 1
    assert 0 in ready[ready.index(max(ready)) :]


def test_spot_nodes_that_go_cost_repeated_starts_and_lose_nothing() -> None:
    hasty = replace(CLUSTER, spot_life_seconds=60, spot_notice_seconds=1)
    outcome, _, jobs = run(FLEET, cluster=hasty)
    assert outcome.preemptions > 0
    assert outcome.starts > len(jobs)
    assert not np.isnan(outcome.waits).any()


def test_more_workers_than_partitions_do_no_more_than_as_many() -> None:
    few = Fleet(name="as many", partitions=2, floor=2, tenant_jobs_in_flight=0)
    many = replace(few, name="more", floor=6)
    assert np.allclose(run(few)[0].waits, run(many)[0].waits)


def test_no_tenant_has_more_jobs_in_kafka_than_it_may() -> None:
    outcome, _, _ = run(FLEET)
    assert max(sample.lag for sample in outcome.samples) <= 3 * 30
    assert max(sample.held_back for sample in outcome.samples) > 0


steps = st.lists(st.sampled_from(["append", "take", "finish", "give back"]), max_size=60)


@given(steps, st.randoms(use_true_random=False))
def test_partition_hands_out_the_first_that_waits_and_commits_no_further_than_all_is_done(
    names: list[str], draw_from: st.DataObject
) -> None:
    partition, waiting, begun, done = Partition(0), [], [], set()
    for name in names:
        if name == "append":
            waiting.append(len(partition.jobs))
            partition.append(len(partition.jobs))
        elif name == "take" and waiting:
            assert partition.has_waiting
            first = partition.take()
            assert first == min(waiting)
            waiting.remove(first)
            begun.append(first)
        elif begun and name in {"finish", "give back"}:
            offset = begun.pop(draw_from.randrange(len(begun)))
            if name == "finish":
                partition.finish(offset)
                done.add(offset)
            else:
                partition.give_back(offset)
                waiting.append(offset)
        assert partition.has_waiting == bool(waiting)
        assert partition.committed == next(n for n in range(len(names) + 1) if n not in done)
        assert partition.lag == len(partition.jobs) - partition.committed


@given(st.integers(1, 20), st.lists(st.sets(st.integers(0, 12), max_size=8), min_size=1, max_size=6))
def test_partitions_are_shared_evenly_and_few_move(count: int, memberships: list[set[int]]) -> None:
    partitions = [Partition(number) for number in range(count)]
    for members in memberships:
        before = {partition.number: partition.owner for partition in partitions}
        shares = share_out(partitions, sorted(members))
        owners = {number: member for member, share in shares.items() for number in share}
        if not members:
            assert owners == {}
            continue
        assert owners.keys() == before.keys()
        sizes = [len(share) for share in shares.values()]
        assert max(sizes) - min(sizes) <= 1
        stayed = sum(owners[number] == owner for number, owner in before.items())
        held = [sum(owner == member for owner in before.values()) for member in members]
        least, extra = divmod(count, len(members))
        most = sum(min(size, least + (rank < extra)) for rank, size in enumerate(sorted(held, reverse=True)))
        assert stayed == most, "partitions moved without need"
        for partition in partitions:
            partition.owner = owners[partition.number]
