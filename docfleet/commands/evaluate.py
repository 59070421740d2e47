"""`docfleet evaluate`: the arguments, and the hand-over to `python -m classifier_worker.evaluation`.

The evaluation needs models and parsers, which live in the worker only, and `docfleet` imports no service.
So this process becomes that one: terminal, signals and exit code are its own, and no entry point has to be installed.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

_MODULE: Final = "classifier_worker.evaluation"
#: What stands for the extra `worker`; a running system is measured with the statistics alone.
_NEEDED_IN_PROCESS: Final = ("numpy", "pdfplumber", "pypdfium2", "PIL", "torch", "timm", "transformers")
_NEEDED_WITH_URL: Final = ("numpy",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both processes understand."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="CSV with the columns path and label")
    parser.add_argument("--ways", type=_ways, default=[None, 10, 5], help="lengths of lists to judge (all,10,5)")
    parser.add_argument("--seeds", type=_count, default=5, help="how often shorter lists are drawn (5)")
    parser.add_argument("--limit", type=_count, metavar="N", help="judge only N documents, spread over the manifest")
    parser.add_argument(
        "--synonyms", type=Path, metavar="FILE", help="CSV with label and synonym: offer these names too, and compare"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report")
    parser.add_argument("--plot", type=_svg, metavar="FILE.svg", help="write the reliability plot")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one JSON object a document")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--bundle", default="default", help="model bundle: default, production, a folder or a hub name")
    who.add_argument("--url", help="measure a running system instead of a bundle in this process")
    parser.add_argument("--api-key", help="its API key (DOCFLEET_API_KEY, else the local stack's)")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".docfleet"), help="the local stack's data dir (.docfleet)"
    )
    parser.add_argument(
        "--none-sample",
        type=lambda text: _count(text, least=0),
        default=100,
        metavar="N",
        help="with --url: documents posted twice more to ask whether none of ten names fits (100)",
    )
    parser.add_argument("--readers", type=_count, default=2, help="documents read at a time in this process (2)")
    parser.add_argument("--timeout", type=_count, default=300, help="most seconds for a document (300)")


def start(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Become the evaluation with the same `arguments`; return 2 when its libraries are not installed."""
    needed = _NEEDED_IN_PROCESS if options.url is None else _NEEDED_WITH_URL
    missing = [module for module in needed if not _is_installed(module)]
    if missing:
        sys.stderr.write(
            f"docfleet evaluate: not installed: {', '.join(missing)}; run: pip install 'docfleet[worker]'\n"
        )
        return 2
    return _become([sys.executable, "-m", _MODULE, *arguments])


def _become(command: Sequence[str]) -> NoReturn:
    os.execv(command[0], list(command))  # noqa: S606


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # sys.modules holds None for it
        return False


def _ways(text: str) -> list[int | None]:
    return [None if part.strip() == "all" else _count(part, least=2) for part in text.split(",")]


def _svg(text: str) -> Path:
    if not text.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .svg, the only format of the plot")
    return Path(text)


def _count(text: str, *, least: int = 1) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is below {least}")
    return number
