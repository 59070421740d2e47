"""A day of bursty load on fleets that are scaled in different ways: replicas, lag, waits and GPU hours.

    python -m benchmarks.autoscaling [--seed 1] [--variants] [--charts FOLDER] [--peak JOBS_PER_SECOND] [--node SECONDS]

A discrete-event simulation: a few hundred thousand jobs in partitions, workers with the measured pace and start of
ours, nodes that take their time and are taken away again, KEDA and the HPA as their sources say. It compares the
settings of deploy/k8s with naive ones, and with `--variants` with ours changed in one thing each. Nothing is started
and the clock is not looked at: the same seed gives the same figures. `--charts` writes the curves as SVG.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.autoscaling.charts import BACKLOG, REPLICAS, draw
from benchmarks.autoscaling.fleets import naive, ours, variants
from benchmarks.autoscaling.load import Day, Jobs, make_jobs
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures, worker_figures
from benchmarks.autoscaling.report import HEAD, figures_of
from benchmarks.autoscaling.world import Fleet, Outcome, live_through


def main() -> None:
    """Run the days and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the jobs and of what happens to spot nodes")
    parser.add_argument("--variants", action="store_true", help="our settings with one thing changed, too")
    parser.add_argument("--charts", type=Path, help="folder for autoscaling-replicas.svg and autoscaling-backlog.svg")
    parser.add_argument("--peak", type=float, default=Day().peak_per_second, help="jobs/s at the height of the day")
    parser.add_argument(
        "--node", type=float, default=ClusterFigures().node_seconds, help="seconds until a node is there"
    )
    parser.add_argument("--load", type=float, help="seconds that a worker takes to be ready; else as measured")
    arguments = parser.parse_args()
    day = Day(peak_per_second=arguments.peak)
    cluster = ClusterFigures(node_seconds=arguments.node)
    worker = worker_figures()
    if arguments.load is not None:
        worker = replace(worker, load_seconds=arguments.load)
    jobs = make_jobs(day, worker, seed=arguments.seed)
    print(f"{len(jobs):,} jobs, {float(jobs.pages.mean()):.2f} pages each, seed {arguments.seed}")
    print(", ".join(f"{name} {value:.4g}" for name, value in {**asdict(worker), **asdict(cluster)}.items()))
    print(f"one worker alone: {alone(worker, jobs):.1f} jobs/s\n")
    fleets = [ours(), *naive()]
    outcomes = run(fleets, day, jobs, worker, cluster, seed=arguments.seed)
    if arguments.variants:
        print("\nOurs with one thing changed:\n")
        run(variants(ours()), day, jobs, worker, cluster, seed=arguments.seed)
    if arguments.charts:
        write_charts(arguments.charts, outcomes)


def alone(worker: WorkerFigures, jobs: Jobs) -> float:
    """Return the jobs a second that one worker does with enough of them: its readers or its engine set the pace."""
    reading = worker.readers / float(jobs.read_seconds.mean())
    return min(reading, worker.engine_pages_per_second / float(jobs.pages.mean()))


def run(
    fleets: Sequence[Fleet], day: Day, jobs: Jobs, worker: WorkerFigures, cluster: ClusterFigures, *, seed: int
) -> list[Outcome]:
    """Live through the day with each fleet, and print each row when it is known."""
    print(HEAD, flush=True)
    outcomes = []
    for fleet in fleets:
        outcome = live_through(fleet, jobs, worker=worker, cluster=cluster, seconds=day.seconds, seed=seed)
        print(figures_of(outcome, jobs, day).row(), flush=True)
        outcomes.append(outcome)
    return outcomes


def write_charts(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the two charts."""
    for name, curves, title, is_log in (
        ("replicas", REPLICAS, "Nodes and workers over the day", False),
        ("backlog", BACKLOG, "Backlog over the day", True),
    ):
        path = folder / f"autoscaling-{name}.svg"
        path.write_text(draw(outcomes, curves, title=title, is_log=is_log), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
