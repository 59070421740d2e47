"""The production bundle: whole but for its weights, which come from a model hub; what is said when there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classifier_worker import models
from classifier_worker.core.answer import Question
from classifier_worker.models.bundle import load_bundle, read_config, read_lexicon
from classifier_worker.models.engine import Engine, EngineSettings
from docfleet.stack.ports import free_port
from tests import documents, tiny_models
from tests.integration.worker.test_engine import page_of

BUNDLES = Path(models.__file__).parents[1] / "bundles"
PRODUCTION = BUNDLES / "production"


def test_it_shares_the_default_bundles_lexicon():
    config = read_config(PRODUCTION)
    assert read_lexicon(PRODUCTION / config.lexicon) == read_lexicon(BUNDLES / "default" / "lexicon")
    assert (config.name, config.text.pooling, config.look.max_num_patches) == ("production", "last", 576)


def test_without_fitted_arrays_its_numbers_still_name_obvious_pages(tmp_path: Path):
    told: dict[str, Any] = json.loads((PRODUCTION / "bundle.json").read_text())
    towers = json.loads((BUNDLES / "default" / "bundle.json").read_text())["towers"]
    tiny_models.bundle(tmp_path, text={}, look={})
    (tmp_path / "bundle.json").write_text(json.dumps(told | {"towers": towers, "lexicon": "lexicon"}))
    names = ("invoice", "scientific paper", "love letter", "menu", "passport")
    texts = {
        "invoice": documents.INVOICE,
        "scientific paper": "Abstract\nWe show that\nReferences",
        "love letter": "Dear Anna\nI love you",
    }
    engine = Engine(load_bundle(str(tmp_path)), settings=EngineSettings(threads=1))
    engine.start()
    try:
        for name, text in texts.items():
            answer = engine.submit(page_of(documents.pdf(pages=1, text=text)), Question(names)).result(60)
            assert names[answer.probabilities.argmax()] == name
        blank = engine.submit(page_of(documents.pdf(pages=1, text="")), Question(names)).result(60)
        assert blank.probabilities.max() < 0.3
    finally:
        engine.close()


@pytest.fixture
def without_hub(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which no hub can be reached and nothing was fetched before."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}


def test_worker_without_the_hub_says_so_in_one_sentence_and_exits_2(without_hub: dict[str, str]):
    settings = {
        "DOCFLEET_BUNDLE": "production",
        "DOCFLEET_BUCKET": "nothing",
        "DOCFLEET_HTTP_PORT": str(free_port()),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "classifier_worker"],
        env=without_hub | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    logged = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    (refused,) = [line for line in logged if line["action"] == "refused"]
    for said in ("model bundle 'production'", "'Qwen/Qwen3-Embedding-0.6B'", "cannot be loaded"):
        assert said in refused["message"]
