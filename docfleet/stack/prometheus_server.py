"""A Prometheus server that watches the local stack, when the program `prometheus` is on the machine.

It comes with no wheel, so it is looked for on the PATH; Debian's package has it. The recording and alert rules are
those of `deploy/monitoring/rules`, which is in the source tree and in no wheel.
"""

import json
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from docfleet.stack.data_dir import write_atomically
from docfleet.stack.faults import CannotStart
from docfleet.stack.patience import until_it_answers
from docfleet.stack.ports import LOOPBACK
from docfleet.stack.processes import Program

PROMETHEUS: Final = "prometheus"
#: The scrape job's name: dashboards and rules find what is ours by it, here and elsewhere.
JOB: Final = "docfleet"
_SCRAPE_SECONDS: Final = 5
_KEEP: Final = "15d"
_TARGETS: Final = "targets.json"


def check_installed() -> None:
    """Refuse in one sentence when there is no Prometheus to start.

    Raises:
        CannotStart: says what to install.

    """
    if shutil.which(PROMETHEUS) is None:
        raise CannotStart(
            "--monitoring needs the program `prometheus`, which is not on the PATH;"
            " on Debian: apt install --no-install-recommends prometheus"
        )


def rule_files() -> list[Path]:
    """Return the recording and alert rules; none where docfleet does not run from its source tree."""
    return sorted((Path(__file__).parents[2] / "deploy" / "monitoring" / "rules").glob("*.yml"))


def prepare(folder: Path, port: int) -> Program:
    """Return the program of a server that keeps its series below `folder` and watches what `watch` says."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "global": {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": f"{_SCRAPE_SECONDS}s"},
        "rule_files": [str(file.resolve()) for file in rule_files()],
        "scrape_configs": [
            {
                "job_name": JOB,
                "file_sd_configs": [{"files": [str((folder / _TARGETS).resolve())], "refresh_interval": "5s"}],
            }
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    argv = [
        *(str(shutil.which(PROMETHEUS)), f"--config.file={file.resolve()}"),
        *(f"--storage.tsdb.path={(folder / 'data').resolve()}", f"--storage.tsdb.retention.time={_KEEP}"),
        *(f"--web.listen-address={LOOPBACK}:{port}", "--enable-feature=exemplar-storage"),
    ]
    return Program(PROMETHEUS, argv)


def watch(folder: Path, addresses: Mapping[str, str]) -> None:
    """Say what to scrape: the HTTP address of each process by its name. The server sees a change by itself."""
    groups: Sequence[Mapping[str, object]] = [
        {"targets": [address.removeprefix("http://")], "labels": {"instance": name}}
        for name, address in addresses.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _TARGETS, json.dumps(groups, indent=1) + "\n")


def wait_until_ready(url: str, *, within_seconds: float) -> None:
    """Return when the server answers queries; StartFailed if it does not. Blocks."""

    def ask() -> None:
        urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()  # noqa: S310  # our own server

    until_it_answers(ask, "Prometheus", unless=OSError, within_seconds=within_seconds)
