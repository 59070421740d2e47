"""Which queued pages and which of their parts are encoded together, in few static shapes.

Pure decisions; the engine's thread acts on them. There is no timer: whoever asks gets what is queued.
A part's padded length depends on that part alone and rows never see each other, so a batch's neighbours
cannot change an answer beyond float32 rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shapes:
    """The static shapes that the engine warms up: rows of a batch, and padded lengths in tokens, both rising."""

    image_rows: tuple[int, ...] = (1, 2, 4, 8)
    text_rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    text_tokens: tuple[int, ...] = (16, 32, 64, 128)
    #: Share of a batch's rows that must be real for it to be padded rather than split. Where a batch costs what its
    #: rows cost, as on a CPU, a quarter of padding is worth a batch saved; a GPU takes as long for 1 row as for 16.
    least_full: float = 0.75

    def tokens_for(self, length: int) -> int:
        """Return the padded length for a text of `length` tokens; longer texts are cut to the longest."""
        return next((tokens for tokens in self.text_tokens if tokens >= length), self.text_tokens[-1])


@dataclass(frozen=True, slots=True)
class Batch:
    """Parts `indices` go through a tower together, padded to `rows` rows (and texts to `tokens` tokens)."""

    indices: tuple[int, ...]
    rows: int
    tokens: int = 0


def split_rows(count: int, sizes: Sequence[int], *, least_full: float = 0.75) -> list[tuple[int, int]]:
    """Return (parts taken, rows) of each batch for `count` parts; `sizes` are the allowed rows, rising.

    Full batches of the largest size first; the rest is padded to the next size if at least the share
    `least_full` of its rows would be real, else split.
    """
    batches = []
    while count:
        fitting = [size for size in sizes if size <= count] or [sizes[0]]
        above = next((size for size in sizes if size >= count), fitting[-1])
        rows = above if count >= above * least_full or above == sizes[0] else fitting[-1]
        taken = min(rows, count)
        batches.append((taken, rows))
        count -= taken
    return batches


def plan_images(count: int, shapes: Shapes) -> list[Batch]:
    """Return the batches for `count` page images, in order."""
    batches, start = [], 0
    for taken, rows in split_rows(count, shapes.image_rows, least_full=shapes.least_full):
        batches.append(Batch(tuple(range(start, start + taken)), rows))
        start += taken
    return batches


def plan_texts(lengths: Sequence[int], shapes: Shapes) -> list[Batch]:
    """Return the batches for texts of these lengths in tokens: texts of one padded length go together."""
    buckets: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        buckets.setdefault(shapes.tokens_for(length), []).append(index)
    batches = []
    for tokens, indices in sorted(buckets.items()):
        start = 0
        for taken, rows in split_rows(len(indices), shapes.text_rows, least_full=shapes.least_full):
            batches.append(Batch(tuple(indices[start : start + taken]), rows, tokens))
            start += taken
    return batches


@dataclass(slots=True)
class Intake(Generic[Item]):
    """Pages that wait for the models, of all jobs, first come first served."""

    most_at_once: int  #: most pages that one round takes
    waiting: list[Item] = field(default_factory=list)

    def take(self) -> list[Item]:
        """Return what is queued, up to `most_at_once`, and forget it here."""
        taken, self.waiting = self.waiting[: self.most_at_once], self.waiting[self.most_at_once :]
        return taken
