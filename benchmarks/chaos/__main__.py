r"""Kill parts of a local stack at random while it works, and count what must never happen.

    python -m benchmarks.chaos [--jobs 10000] [--kill-every 5] [--seed N ...] [--rate 20] [--minutes 120] [--data DIR]

Starts `docfleet up` with two workers whose model is simulated (`simulated@1` in every result; all else is real), posts
small documents over HTTP for several tenants, looks at the jobs all the time, and every few seconds sends SIGKILL,
SIGTERM or SIGSTOP to one of its processes, Kafka, PostgreSQL and the object store included, lets a worker join and
leave, or says old messages again. When all jobs are posted the storm ends; when all is quiet the invariants are
counted, each on a line, offences with their job ids. A seed gives the same schedule of faults; where in its work a
process is hit is the machine's. The last line is `0 violated` and the exit code 0, or the number of offences and 1;
then the data dir with all logs is kept.

How long the jobs of a killed worker take to run elsewhere is only told of kills that nothing else disturbs, and of
workers that have jobs in their hands:

    python -m benchmarks.chaos --jobs 900 --rate 3 --model-seconds 0.4 --kill-every 30 \
        --kill-only classifier_worker-0 classifier_worker-1
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos import schedule, system
from benchmarks.chaos.run import Plan, run, scheduled


def one(options: argparse.Namespace, seed: int, folder: Path, within_seconds: float) -> int:
    """Run one seed on a stack of its own, print the account and return the number of offences."""
    plan = Plan(
        seed=seed,
        jobs=options.jobs,
        per_second=options.rate,
        settle_seconds=options.settle,
        within_seconds=within_seconds,
    )
    every = options.kill_every
    if options.kill_only:
        faults = schedule.kills(seed, options.kill_only, every_seconds=every)
    else:
        faults = schedule.storm(seed, every_seconds=every, session_seconds=system.SESSION_SECONDS)
    print(f"seed {seed}: {options.jobs} jobs at {options.rate:g}/s, a fault every {options.kill_every:g} s", flush=True)
    settings = {"DOCFLEET_SIMULATED_MODEL_SECONDS": f"{options.model_seconds:g}"}
    with system.running(folder, settings=settings) as running:
        account = asyncio.run(run(running, plan, scheduled(faults), is_told=True))
    print(account, flush=True)
    return len(account.offences)


def main() -> int:
    """Run every seed and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds between two faults")
    only = "only SIGKILLs, of these processes"
    parser.add_argument("--kill-only", nargs="+", choices=schedule.KILLABLE, metavar="NAME", help=only)
    parser.add_argument("--seed", type=int, nargs="+", default=[secrets.randbelow(1_000_000)])
    parser.add_argument("--rate", type=float, default=20.0, help="posts a second, at most")
    parser.add_argument("--model-seconds", type=float, default=0.03, help="what the simulated model takes for a page")
    parser.add_argument("--settle", type=float, default=300.0, help="seconds that the system may need to come to rest")
    parser.add_argument("--minutes", type=float, default=120.0, help="most time for all seeds together")
    parser.add_argument("--data", type=Path, default=None, help="folder for the data dirs; default: a temporary one")
    options = parser.parse_args()
    folder = options.data or Path(tempfile.mkdtemp(prefix="docfleet-chaos-"))
    deadline = time.monotonic() + options.minutes * 60
    violated = 0
    for seed in options.seed:
        data_dir = folder / f"seed-{seed}"
        offences = one(options, seed, data_dir, max(0.0, deadline - time.monotonic()))
        if offences:
            print(f"everything that seed {seed} left behind is in {data_dir}")
        else:
            shutil.rmtree(data_dir, ignore_errors=True)
        violated += offences
    print(f"{violated} violated")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
