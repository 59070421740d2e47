"""The arguments of `docfleet top`, without what the command needs when it runs."""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from docfleet.commands.numbers import number

_URL: Final = re.compile(r"https?://[^/\s]+\S*")


def add(parser: argparse.ArgumentParser) -> None:
    """Add where to look, and how to show it."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data-dir", type=Path, help="look at the local stack of this data dir (.docfleet)")
    where.add_argument("--metrics", type=_url, nargs="+", metavar="URL", help="look at services by their /metrics")
    where.add_argument("--prometheus", type=_url, metavar="URL", help="look at what a Prometheus has scraped")
    parser.add_argument("--namespace", help="of what Prometheus has, look at this Kubernetes namespace alone")
    parser.add_argument("--interval", type=_interval, default=2.0, metavar="SECONDS", help="between two looks (2)")
    parser.add_argument("--once", action="store_true", help="show it once, after two looks, as when it goes to a pipe")
    parser.add_argument("--json", action="store_true", help="print one JSON object, after two looks")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from docfleet.commands import top, top_sources

    if options.namespace and not options.prometheus:
        sys.stderr.write("docfleet top: --namespace goes with --prometheus\n")
        return 2
    source: top_sources.Source
    if options.prometheus:
        source = top_sources.Prometheus(options.prometheus, options.namespace)
    elif options.metrics:
        source = top_sources.services(options.metrics)
    else:
        source = top_sources.local_stack(options.data_dir)
    return top.run(source, interval_seconds=options.interval, is_once=options.once, as_json=options.json)


def _interval(text: str) -> float:
    return number(text, float, least=0.2, most=3600)


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an http address")
    return text
