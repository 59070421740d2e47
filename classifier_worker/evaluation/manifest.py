"""The documents to be measured: a manifest with `path` and `label`, and what their labels are called."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class InvalidManifest(Exception):
    """The message names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One document: `path` as the manifest writes it, `file` where it is, `source` what it stands or falls with."""

    path: str
    file: Path
    label: str
    source: str


@dataclass(frozen=True)
class Manifest:
    """Rows in their order, and the names offered for their labels."""

    rows: tuple[Row, ...]
    names: tuple[str, ...]  #: what is offered, in alphabetical order of the labels
    labels: NDArray[np.int64]  #: (rows,) into names
    has_sources: bool
    synonyms: tuple[tuple[str, ...], ...] = ()  #: sets of other names, each in the order of `names`


def read_manifest(path: Path, *, limit: int | None = None, synonyms: Path | None = None) -> Manifest:
    """Return the manifest; `limit` takes that many rows spread over the file, all its names still offered.

    Raises:
        InvalidManifest: a column or a file is missing, there is nothing to tell apart, a name stands for two labels.

    `synonyms` is a CSV with several rows a label: the first ones make one set of names, the second ones another.
    A label with fewer keeps its plain name in the rest.

    """
    told = _read_csv(path, ("path", "label"))
    has_sources = bool(told) and "source_repo" in told[0]
    rows = []
    for line, entry in enumerate(told, start=2):
        file, label = path.parent / (entry["path"] or ""), (entry["label"] or "").strip()
        if not label:
            raise InvalidManifest(f"{path}, line {line}: no label")
        if not file.is_file():
            raise InvalidManifest(f"{path}, line {line}: {entry['path']!r} is not a file beside the manifest")
        rows.append(Row(entry["path"], file, label, (entry.get("source_repo") or "") or entry["path"]))
    kinds = sorted({row.label for row in rows})
    if len(kinds) < 2:
        raise InvalidManifest(f"{path} has {len(kinds)} labels; there must be two or more to tell apart")
    names = tuple(kind.replace("_", " ") for kind in kinds)
    sets = _read_synonyms(synonyms, kinds) if synonyms else ()
    for offered in (names, *sets):
        if len({name.casefold() for name in offered}) < len(offered):
            raise InvalidManifest(f"two labels of {path} have the same name: {', '.join(offered)}")
    if limit is not None and limit < len(rows):
        rows = [rows[at * len(rows) // limit] for at in range(limit)]  # a manifest is mostly in order of its labels
    labels = np.array([kinds.index(row.label) for row in rows])
    return Manifest(tuple(rows), names, labels, has_sources, sets)


def _read_synonyms(path: Path, kinds: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    for line, entry in enumerate(_read_csv(path, ("label", "synonym")), start=2):
        synonym = (entry["synonym"] or "").strip()
        if not synonym:
            raise InvalidManifest(f"{path}, line {line}: no synonym")
        found.setdefault((entry["label"] or "").strip(), []).append(synonym)
    most = max(len(found[kind]) for kind in kinds)
    if not most:
        raise InvalidManifest(f"{path} has no synonym for any label of the manifest")
    return tuple(
        tuple(found[kind][at] if at < len(found[kind]) else kind.replace("_", " ") for kind in kinds)
        for at in range(most)
    )


def _read_csv(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise InvalidManifest(f"{path} has no column {' and no column '.join(map(repr, missing))}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidManifest(f"{path} cannot be read: {error}") from error
