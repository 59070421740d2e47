"""The model bundle: what turns pages into probabilities, as one folder with a name and a version.

Owns bundle.json, the lexicon files and the fitted numbers, and what is said when they are wrong. A bundle
is named by `default` or `production` (which come with the worker), by a folder, or by a hub name whose
repository holds the same files; see docs/models.md.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
import yaml
from huggingface_hub import snapshot_download
from numpy.typing import NDArray
from safetensors.numpy import load_file

from classifier_worker.core.cues import CueIndex, Entry
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.layout import TRAITS
from classifier_worker.core.rivals import NoneScale
from classifier_worker.models.look import LookTower, LookTowerConfig, load_look_tower
from classifier_worker.models.text import TextTower, TextTowerConfig
from classifier_worker.models.weights import InvalidBundle

#: libyaml's parser where PyYAML was built with it: a lexicon loads in 0.1 s instead of 1 s
_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Config = TypeVar("_Config", TextTowerConfig, LookTowerConfig)
_BUNDLES: Final = Path(__file__).parents[1] / "bundles"
_SHIPPED: Final = ("default", "production")
#: Channels that bundle.json may weigh; evidence.py says what each measures.
CHANNELS: Final = ("body", "title", "cues", "heading", "name", "structure", "look")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleConfig:
    """bundle.json, checked."""

    name: str
    version: str
    text: TextTowerConfig
    look: LookTowerConfig
    lexicon: str
    fitted: str | None  #: file of fitted arrays; without it channels are neither centred nor headed
    temperature: float
    channels: Mapping[str, float]
    first_page_weight: float
    none_scale: NoneScale = field(default_factory=NoneScale)  #: without one, odds are taken as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A loaded bundle: its towers on their device, its lexicon and its fitted arrays."""

    config: BundleConfig
    cues: CueIndex
    fitted: Mapping[str, NDArray[np.float32]]
    text: TextTower
    look: LookTower

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.config.name

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.config.version

    @property
    def label(self) -> str:
        """What results call the model: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def page_weights(self) -> PageWeights:
        """How much each page says about its document."""
        return PageWeights(first=self.config.first_page_weight)


def load_bundle(reference: str, *, device: torch.device | str = "cpu", is_fitted: bool = True) -> Bundle:
    """Return the bundle that `reference` names, its weights on `device`; not `is_fitted`: without its fitted arrays.

    Raises:
        InvalidBundle: names the bundle and what is missing or wrong.

    """
    folder = _locate(reference)
    target = torch.device(device)
    try:
        config = read_config(folder)
        cues = CueIndex(read_lexicon(folder / config.lexicon))
        fitted = _read_fitted(folder, config, cues) if is_fitted else {}
        with _loading(config.text.weights):
            text = TextTower(config.text, folder=folder, device=target)
        with _loading(config.look.weights):
            look = load_look_tower(config.look, folder=folder, device=target)
    except InvalidBundle as error:
        raise InvalidBundle(f"model bundle {reference!r}: {error}") from error
    return Bundle(config=config, cues=cues, fitted=fitted, text=text, look=look)


@contextmanager
def _loading(weights: str) -> Iterator[None]:
    """Say which weights are meant by what transformers, timm and the hub raise for those they cannot get."""
    try:
        yield
    except InvalidBundle:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise InvalidBundle(f"the weights {weights!r} cannot be loaded: {_first_sentence(error)}") from error


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()


def _locate(reference: str) -> Path:
    if reference in _SHIPPED:
        return _BUNDLES / reference
    folder = Path(reference)
    if folder.is_dir():
        return folder
    if reference.startswith((".", "/", "~")) or reference.count("/") != 1:
        raise InvalidBundle(
            f"model bundle {reference!r}: no such folder; give {' or '.join(map(repr, _SHIPPED))},"
            " a folder with a bundle.json, or a hub name"
        )
    try:
        return Path(snapshot_download(reference))
    except (OSError, ValueError) as error:
        raise InvalidBundle(
            f"model bundle {reference!r} is neither a folder nor to be had from the model hub: {_first_sentence(error)}"
        ) from error


def read_config(folder: Path) -> BundleConfig:
    """Return the checked bundle.json of `folder`."""
    path = folder / "bundle.json"
    if not path.is_file():
        raise InvalidBundle(f"no bundle.json in {str(folder)!r}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        towers = told.pop("towers")
        text = _tower(TextTowerConfig, towers["text"], "text")
        look = _tower(LookTowerConfig, towers["look"], "look")
        none_scale = NoneScale(**told.pop("none_scale", {}))
        config = BundleConfig(text=text, look=look, none_scale=none_scale, **({"fitted": None} | told))
    except KeyError as error:
        raise InvalidBundle(f"bundle.json lacks {error}") from error
    except (TypeError, json.JSONDecodeError) as error:
        raise InvalidBundle(f"bundle.json is not as it should be: {error}") from error
    if unknown := set(config.channels) - set(CHANNELS):
        raise InvalidBundle(f"bundle.json weighs unknown channels {sorted(unknown)}; there are {list(CHANNELS)}")
    if not config.temperature > 0:
        raise InvalidBundle(f"bundle.json: temperature must be above 0, not {config.temperature}")
    if not 0 < config.first_page_weight <= 1:
        raise InvalidBundle(
            f"bundle.json: first_page_weight must be above 0 and at most 1, not {config.first_page_weight}"
        )
    return config


def _tower(kind: type[_Config], told: dict[str, Any], name: str) -> _Config:
    if unknown := set(told) - {one.name for one in fields(kind)}:
        raise InvalidBundle(f"bundle.json: the {name} tower has unknown settings {sorted(unknown)}")
    libraries = ("transformers",) if kind is TextTowerConfig else ("timm", "transformers")
    if told.get("library") not in libraries:
        raise InvalidBundle(
            f"bundle.json: the {name} tower's library must be one of {libraries}, not {told.get('library')!r}"
        )
    settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return kind(**settings)


def read_lexicon(folder: Path) -> list[Entry]:
    """Return the entries of all lexicon files in `folder`, files and entries in alphabetical order."""
    entries: dict[str, Entry] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            told_entries = yaml.load(path.read_text(encoding="utf-8"), _YAML)  # noqa: S506  # both are safe loaders
        except yaml.YAMLError as error:
            raise InvalidBundle(f"{path.name} is not YAML: {error}") from error
        for name, told in told_entries.items():
            lists = {key: _split(told.get(key) or "") for key in ("also", "cues", "traits", "kind_of")}
            if name in entries or set(told) - set(lists) or set(lists["traits"]) - set(TRAITS):
                raise InvalidBundle(f"{path.name}: the entry {name!r} is there twice or has unknown keys or traits")
            entries[name] = Entry(name, *lists.values())
    if not entries:
        raise InvalidBundle(f"the lexicon {str(folder)!r} holds no *.yaml files with entries")
    if orphans := sorted(name for name, entry in entries.items() if not entries.keys() >= set(entry.kind_of)):
        raise InvalidBundle(f"the lexicon's entries {orphans} are kinds of entries that do not exist")
    return [entries[name] for name in sorted(entries)]


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in str(text).split(";")) if part)


def lexicon_digest(cues: CueIndex) -> NDArray[np.float32]:
    """Return a fingerprint of the lexicon (8,), by which fitted arrays say what they were fitted to."""
    told = json.dumps([(e.name, e.synonyms, e.cues, e.traits, e.kind_of) for e in cues.entries], ensure_ascii=False)
    return np.frombuffer(hashlib.sha256(told.encode()).digest()[:8], dtype=np.uint8).astype(np.float32)


def _read_fitted(folder: Path, config: BundleConfig, cues: CueIndex) -> Mapping[str, NDArray[np.float32]]:
    if config.fitted is None:
        return {}
    path = folder / config.fitted
    if not path.is_file():
        raise InvalidBundle(f"bundle.json names fitted arrays in {config.fitted!r}, which does not exist")
    arrays = {name: array.astype(np.float32) for name, array in load_file(path).items()}
    if not np.array_equal(arrays.get("lexicon_digest", np.zeros(0)), lexicon_digest(cues)):
        raise InvalidBundle(
            f"{config.fitted!r} was fitted to another lexicon; fit again with `python -m benchmarks.fit_bundle`"
        )
    return arrays
