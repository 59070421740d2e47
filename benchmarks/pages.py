"""Where the time of a page goes: CPU milliseconds of one core for each step, per kind of page.

    python -m benchmarks.pages [--corpus DIR] [--pages N] [--bundle NAME]

Reads the first page of up to N born-digital PDFs, scanned PDFs and pictures, in this process and with one
thread, so that every step can be told apart, and prints medians and the two aims: read and all channels
within 250 ms for a born-digital page and within 1,500 ms for a scanned one. Without a corpus the documents
are made here. The first page of each kind is read once before the clock starts.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.corpus import CORPUS
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.categories import Categories
from classifier_worker.models.encoder import Encoder, EncoderSettings, Nobody
from classifier_worker.models.evidence import Evidence, channel_scores, trait_table
from classifier_worker.reader.pages import open_document
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError
from tests import documents

T = TypeVar("T")

NAMES = ("invoice", "contract", "letter", "receipt", "bank statement", "report", "form", "passport", "map", "menu")
STEPS = ("read", "structure", "OCR", "prepare", "text tower", "look tower", "fusion")
AIMS_MS = {"born-digital": 250.0, "scan": 1500.0, "picture": 1500.0}


class Clock:
    """CPU milliseconds of this process by step; what a step costs is what it took longer than the one before."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    def run(self, step: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, its time booked on `step`."""
        began = time.process_time()
        try:
            return work()
        finally:
            self.milliseconds[step] = (time.process_time() - began) * 1000


def first_page(data: bytes, *, structure: bool, ocr: bool) -> Page:
    """Read page 1 as a reader child does."""
    request = ReadRequest(max_pages=1, structure_pages=int(structure), ocr=ocr)
    document = open_document(io.BytesIO(data), len(data), request)
    try:
        return document.page(1)
    finally:
        document.close()


class Classifier:
    """A bundle's channels, step by step."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._encoder = Encoder(bundle, EncoderSettings(), Nobody())
        self._traits = trait_table(bundle.cues)
        categories = Categories(
            bundle.cues.entries, encode=self._encoder.encode_names, encode_look=None, capacity=len(NAMES)
        )
        categories.learn_lexicon(bundle.fitted.get("entry_vectors"))
        self._categories = categories.look_up(NAMES)

    def classify(self, page: Page, clock: Clock) -> None:
        """Run every channel on `page`, each step on the clock."""
        ready = clock.run("prepare", lambda: self._encoder.prepare(page))
        with torch.inference_mode():
            texts = clock.run("text tower", lambda: self._encoder._encode_tokens(ready.tokens, "text"))
            looks = clock.run("look tower", lambda: self._encoder._encode_images([ready.image]))
        evidence = Evidence(ready.sight, texts, looks[0])
        clock.run(
            "fusion",
            lambda: channel_scores(evidence, NAMES, self._categories, traits=self._traits, fitted=self._bundle.fitted),
        )


def measure(data: bytes, classifier: Classifier) -> dict[str, float]:
    """Return the CPU milliseconds of each step on page 1, reading it three times to tell the reader's parts apart."""
    clock = Clock()
    clock.run("read", lambda: first_page(data, structure=False, ocr=False))
    clock.run("structure", lambda: first_page(data, structure=True, ocr=False))
    page = clock.run("OCR", lambda: first_page(data, structure=False, ocr=True))
    for part in ("structure", "OCR"):
        clock.milliseconds[part] = max(clock.milliseconds[part] - clock.milliseconds["read"], 0.0)
    classifier.classify(page, clock)
    return clock.milliseconds


def by_kind(folder: Path, most: int) -> dict[str, list[bytes]]:
    """Return up to `most` documents of each kind, from the folder or made here."""
    kinds: dict[str, list[bytes]] = {kind: [] for kind in AIMS_MS}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        try:
            page = first_page(data, structure=False, ocr=False)
        except DocfleetError:
            continue  # no document, such as the manifest
        kind = "picture" if b"%PDF-" not in data[:1024] else "born-digital" if len(page.text) > 40 else "scan"
        if len(kinds[kind]) < most:
            kinds[kind].append(data)
    made = documents.page_picture()
    kinds["born-digital"] = kinds["born-digital"] or [documents.pdf(pages=1, extra=documents.TABLE)] * most
    kinds["scan"] = kinds["scan"] or [documents.scanned_pdf(made)] * most
    kinds["picture"] = kinds["picture"] or [documents.encoded(made, "JPEG")] * most
    return kinds


def show(kind: str, rows: Sequence[dict[str, float]]) -> None:
    """Print the median of each step, and the whole against its aim."""
    whole = sorted(sum(row.values()) for row in rows)
    steps = "  ".join(f"{step} {statistics.median(row[step] for row in rows):.0f}" for step in STEPS)
    print(f"{kind}, {len(rows)} pages, median CPU ms:  {steps}")
    within = sum(total <= AIMS_MS[kind] for total in whole) / len(whole)
    ninth = whole[min(len(whole) * 9 // 10, len(whole) - 1)]
    print(
        f"  all steps: median {statistics.median(whole):.0f} ms, mean {statistics.fmean(whole):.0f} ms, "
        f"p90 {ninth:.0f} ms (aim {AIMS_MS[kind]:.0f} ms, met by {within:.0%})"
    )


def main() -> None:
    """Print where the time goes, kind by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS / "files")
    parser.add_argument("--pages", type=int, default=12, help="how many pages of each kind")
    parser.add_argument("--bundle", default="default", help="default, a folder or a hub name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    classifier = Classifier(load_bundle(arguments.bundle))
    for kind, files in by_kind(arguments.corpus, arguments.pages).items():
        measure(files[0], classifier)
        show(kind, [measure(data, classifier) for data in files])


if __name__ == "__main__":
    main()
