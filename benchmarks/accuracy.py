"""How often a bundle's answers are right on labelled documents, and how far its confidence can be trusted.

    python -m benchmarks.accuracy [--corpus DIR] [--bundle NAME]

DIR holds manifest.csv with `path`, `label`, `source_repo`. Every document is read in a reader child and
classified by the engine, as a worker does it. Three lists of names are judged: every label of the corpus,
and ten and five of them, the true one among them. The default bundle was fitted on the project's own
corpus, so on that one these figures flatter it; `python -m benchmarks.fit_bundle --dry-run` prints those
of sources that the fit has not seen.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.corpus import CORPUS, Labelled, read_corpus
from benchmarks.scores import accuracy, expected_calibration_error
from classifier_worker.core.answer import Question
from classifier_worker.core.fusion import combine_pages
from classifier_worker.models.bundle import load_bundle
from classifier_worker.models.engine import Engine

MOST_CONFUSIONS = 12


def main() -> None:
    """Classify the corpus and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--bundle", default="default", help="default, a folder or a hub name")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    engine = Engine(bundle)
    engine.start()
    try:
        documents = list(read_corpus(options.corpus))
        names = tuple(sorted({document.label for document in documents}))
        asked = [[engine.submit(page, Question(names)) for page in document.pages] for document in documents]
        probabilities = np.stack(
            [
                combine_pages(
                    [
                        (page.number, future.result().probabilities)
                        for page, future in zip(document.pages, futures, strict=True)
                    ],
                    bundle.page_weights,
                )
                for document, futures in zip(documents, asked, strict=True)
            ]
        )
    finally:
        engine.close()
    show(bundle.label, documents, names, probabilities)


def show(
    model: str, documents: list[Labelled], names: tuple[str, ...], probabilities: np.ndarray[tuple[int, int]]
) -> None:
    """Print accuracy, calibration and the most frequent confusions."""
    labels = np.array([names.index(document.label) for document in documents])
    print(f"{model}: {len(documents)} documents, {len(names)} labels, {len({d.source for d in documents})} sources")
    print(f"accuracy: {accuracy(probabilities, labels)}")
    print(f"expected calibration error: {expected_calibration_error(probabilities, labels):.3f}")
    confident = probabilities.max(axis=1) >= 0.9
    right = probabilities.argmax(axis=1) == labels
    share = right[confident].mean() if confident.any() else float("nan")
    print(f"confidence of 0.9 or more: {confident.mean():.0%} of the documents, {share:.1%} of them right")
    confusions = Counter(
        (names[label], names[guess])
        for label, guess in zip(labels, probabilities.argmax(axis=1), strict=True)
        if label != guess
    )
    for (label, guess), times in confusions.most_common(MOST_CONFUSIONS):
        print(f"  {times} x {label!r} taken for {guess!r}")


if __name__ == "__main__":
    main()
