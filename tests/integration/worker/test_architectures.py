"""The towers that a production bundle names, tiny and random, loaded from a folder in the hub's format.

What holds for all: neither the batch, nor its padding, nor the order of the names changes an answer.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from classifier_worker.core.answer import Question
from classifier_worker.core.batching import Batch, Shapes
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.compiling import compile_blocks
from classifier_worker.models.encoder import EncoderSettings
from classifier_worker.models.engine import Engine, EngineSettings
from classifier_worker.models.weights import InvalidBundle
from tests import tiny_models

NAMES = ("invoice", "letter", "menu", "Zollerklärung", "love letter")
TOLERANCE = 1e-4
SHAPES = Shapes(image_rows=(1, 4), text_rows=(1, 2, 8), text_tokens=(16, 32, 64, 128))

TEXT: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "modernbert": (tiny_models.modernbert, {"pooling": "cls"}),
    "qwen3": (tiny_models.qwen3, {"pooling": "last", "query_prefix": "Query: "}),
}
LOOK: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "siglip2-naflex": (tiny_models.siglip2_naflex, {"library": "transformers", "max_num_patches": 48}),
    "siglip": (tiny_models.siglip, {"library": "transformers"}),
    "timm-naflexvit": (
        tiny_models.timm_backbone("naflexvit_base_patch16_siglip", embed_dim=32, depth=1, num_heads=4),
        {"library": "timm", "height_px": 128, "width_px": 96},
    ),
    "timm-vit-siglip": (
        tiny_models.timm_backbone("vit_base_patch16_siglip_224", embed_dim=32, depth=1, num_heads=4),
        {"library": "timm", "height_px": 128, "width_px": 96},
    ),
}
PAIRS = [("qwen3", "siglip2-naflex"), ("modernbert", "siglip"), ("modernbert", "timm-naflexvit")]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Return what loads a bundle of the two named towers from a folder made for it."""

    def loaded(text: str = "qwen3", look: str = "siglip2-naflex", **changes: Any) -> Bundle:
        folder = tmp_path_factory.mktemp("bundle")
        (make_text, text_told), (make_look, look_told) = TEXT[text], LOOK[look]
        make_text(folder / "text")
        make_look(folder / "look")
        look_told = look_told | {"weights": "look"} | changes
        return load_bundle(str(tiny_models.bundle(folder, text=text_told | {"weights": "text"}, look=look_told)))

    return loaded


def picture(height_px: int, width_px: int, seed: int = 0) -> np.ndarray:
    """Return a white page with dark blocks on it."""
    rng = np.random.default_rng(seed)
    image = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
    for _ in range(12):
        top, left = int(rng.integers(height_px)), int(rng.integers(width_px))
        image[top : top + height_px // 8 + 1, left : left + width_px // 4 + 1] = rng.integers(200)
    return image


def page(number: int, text: str, size_px: tuple[int, int] = (512, 362)) -> Page:
    return Page(
        number=1,
        width_points=595,
        height_points=842,
        text=text,
        text_source="layer" if text else "none",
        lines=(),
        structure=None,
        image=picture(*size_px, seed=number),
    )


PAGES = [
    page(0, "Invoice number 7\nBill to A. Vosk\nAmount due 3.00"),
    page(1, "Dear Anna\n" + "I write at length of many things. " * 20),
    page(2, "", size_px=(300, 512)),
    page(3, "Starters\nSoup", size_px=(512, 40)),
    page(4, "x", size_px=(1, 512)),
]


@pytest.fixture(scope="module", params=PAIRS, ids="+".join)
def engine(request: pytest.FixtureRequest, load: Callable[..., Bundle]) -> Iterator[Engine]:
    opened = Engine(
        load(*request.param), settings=EngineSettings(threads=1, encoder=EncoderSettings(shapes=SHAPES), preparers=2)
    )
    opened.start()
    yield opened
    opened.close()


def ask(engine: Engine, seen: Page, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    return dict(zip(names, engine.submit(seen, Question(names)).result(60).probabilities.tolist(), strict=True))


def test_batch_changes_no_answer(engine: Engine) -> None:
    alone = [ask(engine, seen) for seen in PAGES]
    many = [(number, engine.submit(seen, Question(NAMES))) for _ in range(3) for number, seen in enumerate(PAGES)]
    for number, future in many:
        assert future.result(60).probabilities == pytest.approx(list(alone[number].values()), abs=TOLERANCE)
    assert len({tuple(np.round(list(answer.values()), 3)) for answer in alone}) == len(PAGES), "pages look alike"


def test_order_of_the_names_changes_no_answer(engine: Engine) -> None:
    for seen in PAGES:
        assert ask(engine, seen, NAMES[::-1]) == pytest.approx(ask(engine, seen), abs=TOLERANCE)


@pytest.mark.parametrize("architecture", LOOK)
def test_image_of_any_proportions_has_the_same_vector_in_any_batch(load: Callable[..., Bundle], architecture: str):
    look = load("modernbert", architecture).look
    sizes = [(512, 362), (362, 512), (512, 20), (3, 512), (1, 1), (64, 64)]
    prepared = [look.prepare(picture(*size, seed=number)) for number, size in enumerate(sizes)]
    with torch.inference_mode():
        together = look.encode(prepared, rows=8)
        alone = torch.cat([look.encode([one], rows=1) for one in prepared])
    assert together.shape == alone.shape
    assert together.isfinite().all()
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-5)
    assert torch.pdist(alone).min() > 1e-3


@pytest.mark.parametrize("architecture", TEXT)
def test_text_has_the_same_vector_with_any_padding(load: Callable[..., Bundle], architecture: str):
    text = load(architecture).text
    tokens = text.tokenise(["short", "Dear Anna, " * 3, "a longer text of several words"], most_tokens=64)
    with torch.inference_mode():
        together = text.encode(tokens, Batch((0, 1, 2), rows=8, tokens=64))
        alone = torch.cat([text.encode([one], Batch((0,), rows=1, tokens=len(one))) for one in tokens])
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-5)
    assert torch.pdist(alone).min() > 1e-2


def test_pooling_takes_the_position_that_the_model_was_trained_for(load: Callable[..., Bundle]):
    tokens = [[5, 6, 7, 8]]
    for architecture, position in (("modernbert", 0), ("qwen3", 3)):
        text = load(architecture).text
        with torch.inference_mode():
            hidden = text._model(input_ids=torch.tensor(tokens)).last_hidden_state[0, position]
            vector = text.encode(tokens, Batch((0,), rows=2, tokens=16))[0]
        assert vector.numpy() == pytest.approx((hidden / hidden.norm()).numpy(), abs=1e-5)


def test_threads_that_cut_at_different_lengths_do_not_cut_for_each_other(load: Callable[..., Bundle]):
    text = load().text
    lengths = [16, 64] * 200
    with ThreadPoolExecutor(4) as threads:
        cut = list(threads.map(lambda most: len(text.tokenise(["a" * 100], most_tokens=most)[0]), lengths))
    assert cut == lengths


def test_text_that_is_cut_keeps_its_end_mark(load: Callable[..., Bundle]):
    text = load("qwen3").text
    (short,), (long,) = (text.tokenise([told], most_tokens=16) for told in ("a", "a" * 100))
    assert len(long) == 16
    assert long[-1] == short[-1] == text._tokenizer.eos_token_id


def test_naflex_page_keeps_its_proportions_within_a_fixed_number_of_patches(load: Callable[..., Bundle]):
    look = load(max_num_patches=48).look
    for size, grid in (((512, 362), (8, 6)), ((362, 512), (6, 8)), ((512, 1), (48, 1)), ((512, 512), (6, 6))):
        prepared = look.prepare(picture(*size))
        assert prepared["pixel_values"].shape[0] == 48
        assert tuple(prepared["spatial_shapes"].tolist()) == grid
        assert int(prepared["pixel_attention_mask"].sum()) == grid[0] * grid[1]


def test_number_of_patches_is_refused_by_a_tower_of_one_size(load: Callable[..., Bundle]):
    with pytest.raises(InvalidBundle, match="is not NaFlex"):
        load("modernbert", "siglip", max_num_patches=256)


@pytest.mark.parametrize("architecture", ["siglip2-naflex", "siglip"])
def test_names_are_padded_on_the_right_to_the_full_length_and_padding_is_seen(
    load: Callable[..., Bundle], architecture: str
):
    look = load("modernbert", architecture).look
    heard: list[dict[str, Any]] = []
    model = look._model
    asked = model.get_text_features
    model.get_text_features = lambda **inputs: heard.append(inputs) or asked(**inputs)
    with torch.inference_mode():
        together = look.encode_names(["Invoice", "letter", "n" * 200])
        alone = torch.cat([look.encode_names([name]) for name in ("invoice", "letter", "n" * 200)])
    assert together.numpy() == pytest.approx(alone.numpy(), abs=1e-5)
    assert set(heard[0]) == {"input_ids"}
    ids = heard[0]["input_ids"]
    assert ids.shape == (3, 64)
    assert ids[0, -1] == look._tokenizer.pad_token_id
    assert ids[2, -1] == look._tokenizer.eos_token_id


@pytest.fixture
def compiling() -> Iterator[None]:
    """Forget what was compiled before, and compile under a limit that more shapes than one must lift."""
    traces = logging.getLogger("torch.__trace")
    level = traces.level
    traces.setLevel(logging.WARNING)
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=1, capture_scalar_outputs=False, fail_on_recompile_limit_hit=True):
        yield
    torch._dynamo.reset()
    traces.setLevel(level)


@pytest.mark.parametrize(("text", "look"), [("qwen3", "siglip2-naflex"), ("modernbert", "timm-naflexvit")])
def test_warm_up_compiles_all_shapes_and_work_compiles_none(
    load: Callable[..., Bundle], compiling: None, text: str, look: str
):
    bundle = load(text, look)
    shapes = Shapes(image_rows=(1, 2), text_rows=(1, 2), text_tokens=(32, 128))
    plain = Engine(bundle, settings=EngineSettings(threads=1, encoder=EncoderSettings(shapes=shapes)))
    plain.start()
    expected = [ask(plain, seen) for seen in PAGES]
    plain.close()
    encoder = EncoderSettings(shapes=shapes, is_compiled=True, compile_backend="eager")
    engine = Engine(bundle, settings=EngineSettings(threads=1, encoder=encoder))
    engine.start()
    declared = len(shapes.image_rows) + len(shapes.text_rows) * len(shapes.text_tokens)
    compiled = counters["stats"]["unique_graphs"]
    assert declared <= compiled <= 4 * declared, "a graph is made for every block"
    futures = [engine.submit(seen, Question(NAMES)) for seen in PAGES * 3]
    for number, future in enumerate(futures):
        answer = future.result(60).probabilities
        assert answer == pytest.approx(list(expected[number % len(PAGES)].values()), abs=TOLERANCE)
    engine.close()
    assert counters["stats"]["unique_graphs"] == compiled
    assert not counters["graph_break"]


def test_bfloat16_answers_are_near_those_of_float32(load: Callable[..., Bundle]):
    bundle = load()
    answers = []
    for is_bf16 in (False, True):
        engine = Engine(bundle, settings=EngineSettings(encoder=EncoderSettings(shapes=SHAPES, is_bf16=is_bf16)))
        engine.start()
        answers.append([list(ask(engine, seen).values()) for seen in PAGES])
        engine.close()
    whole, half = np.array(answers)
    assert whole == pytest.approx(half, abs=0.1)
    assert not np.array_equal(whole, half), "autocast did nothing"


def test_every_shape_has_run_before_the_engine_has_started(
    load: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
):
    bundle = load()
    seen: list[tuple[int, int]] = []
    encode_image, encode_text = bundle.look.encode, bundle.text.encode
    monkeypatch.setattr(bundle.look, "encode", lambda i, *, rows: seen.append((rows, 0)) or encode_image(i, rows=rows))
    monkeypatch.setattr(bundle.text, "encode", lambda t, b: seen.append((b.rows, b.tokens)) or encode_text(t, b))
    engine = Engine(bundle, settings=EngineSettings(encoder=EncoderSettings(shapes=SHAPES)))
    engine.start()
    engine.close()
    assert {rows for rows, tokens in seen if not tokens} == set(SHAPES.image_rows)
    assert {tokens for _, tokens in seen if tokens} == set(SHAPES.text_tokens)


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)), 2),
        (torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 8)), 0),
        (torch.nn.Sequential(torch.nn.Linear(4, 4)), 0),
        (torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU()), 0),
    ],
    ids=["equal", "of two sizes", "alone", "without weights"],
)
def test_only_blocks_of_one_kind_and_size_are_compiled_one_by_one(model: torch.nn.Module, blocks: int):
    assert compile_blocks(model, "eager") == blocks
