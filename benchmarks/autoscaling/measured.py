"""The figures that the simulation is fed with: what was measured, and what is assumed because nobody here could.

Measured ones name the benchmark that prints them. Assumptions name where their size comes from; change them on the
command line of the simulation to see how much they matter.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

GPU_FIGURES: Final = Path(__file__).parents[1] / "gpu.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """One worker with a GPU (deploy/k8s/components/gpu): eight readers beside the thread that owns the model."""

    readers: int = 8
    requested_cores: float = 7.0
    # measured: docs/benchmarks.md (benchmarks.reader; benchmarks.pages), CPU seconds of one core
    digital_page_seconds: float = 1 / 60
    scan_page_seconds: float = 1.05
    document_seconds: float = 0.02  #: opening a document and telling of it, by benchmarks.fleet
    # measured: benchmarks.gpu, here as rounded from what it wrote to gpu.json
    engine_pages_per_second: float = 17.0
    answer_seconds: float = 0.18  #: from a page read to its answer, nothing else queued
    load_seconds: float = 147.0  #: from the start of the process to ready, nothing compiled before
    # assumed: contracts and forms; a tenth of them scanned, one in a thousand near the time limit of reading
    scan_share: float = 0.1
    slow_share: float = 0.001
    slow_seconds: float = 30.0  #: DOCFLEET_DOCUMENT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFigures:
    """What the cluster does, all assumed; GPU nodes were not at hand."""

    #: from a pod that finds no node to a node with its driver: 2 to 8 minutes are reported for GPU nodes
    node_seconds: float = 180.0
    #: worker's image from a secondary boot disk; a pull of several GB takes minutes
    image_seconds: float = 15.0
    #: a node without pods is kept for so long: the cluster autoscaler's default (scale-down-unneeded-time)
    node_idle_seconds: float = 600.0
    #: Kafka's group settles after a worker comes or goes (cooperative): two rounds of joining
    rebalance_seconds: float = 6.0
    #: DOCFLEET_REVOKE_DRAIN_SECONDS: jobs under way may end before their partition moves
    revoke_drain_seconds: float = 10.0
    #: DOCFLEET_STOP_DEADLINE_SECONDS: a worker that is told to stop finishes what it has begun
    stop_seconds: float = 25.0
    #: notice before a spot node is gone (GKE gives pods at least so long)
    spot_notice_seconds: float = 15.0
    #: each spot node lives so long on average
    spot_life_seconds: float = 8 * 3600.0
    #: once a day the provider takes this share of all spot nodes within a minute, at the height of the drop
    spot_raid_share: float = 0.4
    spot_raid_at: float = 15.2 * 3600.0


def worker_figures(path: Path = GPU_FIGURES) -> WorkerFigures:
    """Return the figures, those of the GPU as benchmarks.gpu wrote them to `path`; the defaults without it."""
    plain = WorkerFigures()
    if not path.is_file():
        return plain
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    blocks, eager = told["blocks"], told["eager"]
    # the threads that prepare pages and the one that judges them share one interpreter, so their times add up
    interpreter = 1000 / (eager["prepare_ms"] + eager["judge_ms"])
    return replace(
        plain,
        engine_pages_per_second=min(interpreter, max(eager["encoder"].values())),
        answer_seconds=blocks["latency_ms"]["median"] / 1000,
        load_seconds=blocks["import_and_load_seconds"] + blocks["start_seconds"],
    )
