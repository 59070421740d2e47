"""The documents to be measured: a manifest with `path` and `label`, and what their labels are called."""

import csv
from collections.abc import Mapping
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


def read_manifest(path: Path, *, limit: int | None = None, synonyms: Path | None = None) -> Manifest:
    """Return the manifest; `limit` takes that many rows spread over the file, all its names still offered.

    Raises:
        InvalidManifest: a column or a file is missing, there is nothing to tell apart, a name stands for two labels.

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
    others = _read_synonyms(synonyms) if synonyms else {}
    names = tuple(others.get(kind, kind.replace("_", " ")) for kind in kinds)
    if len({name.casefold() for name in names}) < len(names):
        raise InvalidManifest(f"two labels of {path} have the same name: {', '.join(names)}")
    if limit is not None and limit < len(rows):
        rows = [rows[at * len(rows) // limit] for at in range(limit)]  # a manifest is mostly in order of its labels
    labels = np.array([kinds.index(row.label) for row in rows])
    return Manifest(tuple(rows), names, labels, has_sources)


def _read_synonyms(path: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for entry in _read_csv(path, ("label", "synonym")):
        found.setdefault(entry["label"], entry["synonym"])
    return found


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
