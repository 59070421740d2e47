"""What new category names cost: the first question with N of them, and the same question again from the cache.

    python -m benchmarks.names [--names 500] [--bundle NAME]

The names are made up of words of the lexicon's own names and numbers, so that none of them is known and all are unlike.
Aim: 500 new names within 5 s on a CPU.
"""

import argparse
import time

import numpy as np

from classifier_worker.core.answer import Question
from classifier_worker.core.page import Box, Line, Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.engine import Engine

AIM_SECONDS = 5.0


def new_names(bundle: Bundle, count: int) -> tuple[str, ...]:
    """Return names that the lexicon does not have."""
    entries = [entry.name for entry in bundle.cues.entries]
    return tuple(f"{entries[at % len(entries)]} of series {at} for branch {at * 7 % 97}" for at in range(count))


def page() -> Page:
    """Return a short page."""
    text = "Invoice number 20418, amount due 276.60"
    lines = (Line(text, Box(0.1, 0.1, 0.9, 0.12), 0.015),)
    image = np.full((512, 362, 3), 255, dtype=np.uint8)
    image[50:60, 40:300] = 0
    return Page(
        number=1,
        width_points=595,
        height_points=842,
        text=text,
        text_source="layer",
        lines=lines,
        structure=None,
        image=image,
    )


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--bundle", default="default", help="default, a folder or a hub name")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    engine = Engine(bundle)
    engine.start()
    try:
        engine.submit(page(), Question(("invoice", "letter"))).result()
        question = Question(new_names(bundle, arguments.names))
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            engine.submit(page(), question).result()
            seconds.append(time.perf_counter() - began)
    finally:
        engine.close()
    first, again = seconds
    print(f"{arguments.names} new names: {first:.2f} s (aim {AIM_SECONDS:g} s); again: {again * 1000:.0f} ms")


if __name__ == "__main__":
    main()
