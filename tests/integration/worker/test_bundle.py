"""A bundle that is not as it should be is refused with a sentence that names what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifier_worker import models
from classifier_worker.models.bundle import load_bundle
from classifier_worker.models.weights import InvalidBundle

DEFAULT = Path(models.__file__).parents[1] / "bundles" / "default"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DEFAULT, tmp_path / "bundle")


def change(folder: Path, by: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "bundle.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    by(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_a_copy_in_another_folder_is_as_good(folder: Path) -> None:
    change(folder, lambda config: config.update(name="mine", version="7"))
    assert load_bundle(str(folder)).label == "mine@7"


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (lambda c: c.pop("temperature"), "temperature"),
        (lambda c: c.update(temperature=0), "temperature must be above 0"),
        (lambda c: c.update(first_page_weight=1.5), "first_page_weight must be"),
        (lambda c: c["channels"].update(smell=1.0), "unknown channels ['smell']"),
        (lambda c: c["towers"].pop("text"), "lacks 'text'"),
        (lambda c: c["towers"]["text"].update(library="keras"), "library must be one of"),
        (lambda c: c["towers"]["look"].update(colour=1), "unknown settings ['colour']"),
        (lambda c: c["towers"]["text"].update(weights="package:no_such_package/x"), "no_such_package"),
        (lambda c: c.update(fitted="elsewhere.safetensors"), "elsewhere.safetensors"),
        (lambda c: c.update(lexicon="nowhere"), "nowhere"),
    ],
)
def test_fault_is_named(folder: Path, by: Callable[[dict[str, Any]], object], says: str) -> None:
    change(folder, by)
    with pytest.raises(InvalidBundle) as refused:
        load_bundle(str(folder))
    assert str(folder) in str(refused.value)
    assert says in str(refused.value)


def test_fitted_arrays_of_another_lexicon_are_refused(folder: Path) -> None:
    (folder / "lexicon" / "more.yaml").write_text("dog licence:\n  cues: dog; licence\n", encoding="utf-8")
    with pytest.raises(InvalidBundle, match="fitted to another lexicon"):
        load_bundle(str(folder))


@pytest.mark.parametrize("reference", ["/no/such/folder", "./nowhere", "three/part/name"])
def test_reference_that_names_nothing_is_refused(reference: str) -> None:
    with pytest.raises(InvalidBundle, match="no such folder"):
        load_bundle(reference)
