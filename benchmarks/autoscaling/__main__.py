"""A day of bursty load on fleets that are scaled in different ways: replicas, lag, waits and GPU hours.

    python -m benchmarks.autoscaling [--seed 1 ...] [--variants] [--charts FOLDER] [--peak JOBS/S] [...]

A discrete-event simulation: more than a million jobs in partitions, workers with the measured pace and start of
ours, nodes that take their time and are taken away again, KEDA and the HPA as their sources say. It compares the
settings of deploy/k8s with naive ones, and with `--variants` with ours changed in one thing each. Nothing is started
and the clock is not looked at: the same seed gives the same figures. `--charts` writes the curves as SVG.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.autoscaling.charts import BACKLOG, REPLICAS, draw
from benchmarks.autoscaling.fleets import naive, ours, variants, with_thresholds
from benchmarks.autoscaling.keda import KINDS
from benchmarks.autoscaling.load import Day, Jobs, make_jobs
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures, worker_figures
from benchmarks.autoscaling.report import HEAD, Figures, figures_of, mean_of
from benchmarks.autoscaling.world import Fleet, Outcome, live_through


def main() -> None:
    """Run the days and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, nargs="+", default=[1], help="of the jobs and of spot nodes' fate; a day each"
    )
    parser.add_argument("--variants", action="store_true", help="our settings with one thing changed, too")
    parser.add_argument("--charts", type=Path, help="folder for autoscaling-replicas.svg and autoscaling-backlog.svg")
    parser.add_argument("--peak", type=float, default=Day().peak_per_second, help="jobs/s at the height of the day")
    parser.add_argument(
        "--node", type=float, default=ClusterFigures().node_seconds, help="seconds until a node is there"
    )
    parser.add_argument("--slow", type=float, help="share of documents that take 10 to 30 s to read")
    parser.add_argument("--load", type=float, help="seconds that a worker takes to be ready; else as measured")
    thresholds = "others than those of the files, by trigger, such as jobs=200 arrivals=2.5"
    parser.add_argument("--thresholds", nargs="+", type=_threshold, default=[], metavar="TRIGGER=X", help=thresholds)
    arguments = parser.parse_args()
    day = Day(peak_per_second=arguments.peak)
    cluster = ClusterFigures(node_seconds=arguments.node)
    worker = worker_figures()
    if arguments.load is not None:
        worker = replace(worker, load_seconds=arguments.load)
    if arguments.slow is not None:
        worker = replace(worker, slow_share=arguments.slow)
    days = {seed: make_jobs(day, worker, seed=seed) for seed in arguments.seed}
    for seed, jobs in days.items():
        pages = float(jobs.pages.mean())
        print(
            f"seed {seed}: {len(jobs):,} jobs, {pages:.2f} pages each; a worker does {alone(worker, jobs):.1f} jobs/s"
        )
    print(", ".join(f"{name} {value:.4g}" for name, value in {**asdict(worker), **asdict(cluster)}.items()) + "\n")
    fleet = with_thresholds(ours(), dict(arguments.thresholds))
    outcomes = run([fleet, *naive()], day, days, worker, cluster)
    if arguments.variants:
        print("\nOurs with one thing changed:\n")
        run(variants(fleet), day, days, worker, cluster)
    if arguments.charts:
        write_charts(arguments.charts, outcomes)


def _threshold(text: str) -> tuple[str, float]:
    kind, _, value = text.partition("=")
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"no trigger is called {kind!r}; there are {', '.join(KINDS)}")
    try:
        return kind, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not TRIGGER=NUMBER") from None


def alone(worker: WorkerFigures, jobs: Jobs) -> float:
    """Return the jobs a second that one worker does with enough of them: its readers or its engine set the pace."""
    reading = worker.readers / float(jobs.read_seconds.mean())
    return min(reading, worker.engine_pages_per_second / float(jobs.pages.mean()))


def run(
    fleets: Sequence[Fleet], day: Day, days: Mapping[int, Jobs], worker: WorkerFigures, cluster: ClusterFigures
) -> list[Outcome]:
    """Live through the days with each fleet, print each row when it is known, and return the first day's outcomes."""
    print(HEAD, flush=True)
    firsts = []
    for fleet in fleets:
        found: list[Figures] = []
        for seed, jobs in days.items():
            outcome = live_through(fleet, jobs, worker=worker, cluster=cluster, seconds=day.seconds, seed=seed)
            if not found:
                firsts.append(outcome)
            found.append(figures_of(outcome, jobs, day))
        print(mean_of(found).row(), flush=True)
    return firsts


def write_charts(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the two charts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, curves, title, is_log in (
        ("replicas", REPLICAS, "Nodes and workers over the day", False),
        ("backlog", BACKLOG, "Backlog over the day", True),
    ):
        path = folder / f"autoscaling-{name}.svg"
        path.write_text(draw(outcomes, curves, title=title, is_log=is_log), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
