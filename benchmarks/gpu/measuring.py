"""One way to run the towers (eager, blocks or whole), measured from loading to the queue's behaviour."""

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from torch._dynamo.utils import counters

from benchmarks.gpu.ceilings import Stopwatch, look_flops, peak_flops, text_flops
from benchmarks.gpu.timeline import device_timeline
from classifier_worker.core.answer import Question
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.encoder import Nobody
from classifier_worker.models.engine import GPU_SETTINGS, Engine, EngineSettings
from classifier_worker.models.evidence import see
from classifier_worker.models.look import Prepared

NAMES: Final = (
    "invoice",
    "contract",
    "letter",
    "receipt",
    "bank statement",
    "report",
    "form",
    "passport",
    "map",
    "menu",
)
QUESTION: Final = Question(NAMES)
Keep = Callable[[dict[str, Any]], None]


@dataclass
class Batches(Nobody):
    """The engine's observer: which batches it made."""

    seen: Counter[tuple[str, int, int]] = field(default_factory=Counter)

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:  # noqa: ARG002
        """Count the batch."""
        self.seen[kind, size, capacity] += 1

    def take(self) -> dict[str, int]:
        """Return how often each batch was made since the last call, as `kind real/rows`."""
        told = {f"{kind} {size}/{capacity}": count for (kind, size, capacity), count in sorted(self.seen.items())}
        self.seen.clear()
        return told


class Measuring:
    """The engine of one bundle on one device, and what was found out about it so far (`found`)."""

    def __init__(self, folder: str, *, device: str, way: str, is_tiny: bool, keep: Keep) -> None:
        self.found: dict[str, Any] = {}
        self._keep = keep
        self._device, self._way, self._is_tiny = device, way, is_tiny
        self._watch = Stopwatch(device)
        self._repeats = 2 if is_tiny else 10
        self._batches = Batches()
        began = time.perf_counter()
        self._bundle = load_bundle(folder, device=device)
        self._synchronize()
        self.tell("load_seconds", time.perf_counter() - began)
        self._settings = settings_of(way, device, is_tiny=is_tiny)
        self._shapes = self._settings.encoder.shapes
        self._engine = Engine(self._bundle, settings=self._settings, observer=self._batches)

    def tell(self, name: str, value: object) -> None:
        """Note a figure; a program that is stopped later has kept it."""
        self.found[name] = value
        self._keep(self.found)

    def start(self) -> None:
        """Start the engine, shape by shape on the clock."""
        torch._dynamo.config.recompile_limit = 128  # room for weights of another type at the end
        if self._way == "whole":
            compile_whole(self._bundle)
        warm_up: dict[str, float] = {}
        began = time.perf_counter()
        with on_the_clock(self._bundle, self._engine, lambda step, seconds: self._tell_step(warm_up, step, seconds)):
            self._engine.start()
        self.tell("start_seconds", time.perf_counter() - began)
        self.tell("graphs", counters["stats"]["unique_graphs"])
        self.tell("graph_breaks", len(counters["graph_break"]))
        if self._device == "cuda":
            self.tell("memory_gib", torch.cuda.memory_allocated() / 2**30)
            self.tell("memory_peak_gib", torch.cuda.max_memory_reserved() / 2**30)

    def _tell_step(self, warm_up: dict[str, float], step: str, seconds: float) -> None:
        self._synchronize()
        is_new = step not in warm_up
        warm_up[step] = warm_up.get(step, 0.0) + seconds
        if is_new:
            self.tell("warm_up_seconds", warm_up)

    def towers_alone(self, pages: list[Page]) -> None:
        """Time each tower at each static shape, its input on the device already: no tokenising, copying or judging."""
        peak = peak_flops(self._device, is_tiny=self._is_tiny)
        self.tell("peak_flops", peak)
        image = self._on_device(self._bundle.look.prepare(pages[0].image))
        patches = len(image["pixel_values"])
        self.tell("patches", patches)
        for rows in self._shapes.image_rows:
            batch = {name: torch.stack([tensor] * rows) for name, tensor in image.items()}
            seconds = self._time(lambda batch=batch: self._bundle.look._features(**batch))  # type: ignore[misc,attr-defined]
            self._tell_rate(
                "look_alone", rows, rows / seconds, look_flops(self._bundle, rows, patches) / seconds / peak
            )
        for tokens in self._shapes.text_tokens:
            for rows in self._shapes.text_rows:
                ids, mask = torch.ones(2, rows, tokens, dtype=torch.int64, device=self._device)
                mask[:, -1] = 0
                seconds = self._time(lambda ids=ids, mask=mask: self._bundle.text._forward(ids, mask))  # type: ignore[misc]
                share = text_flops(self._bundle, rows, tokens) / seconds / peak
                self._tell_rate(f"text_alone_{tokens}", rows, rows / seconds, share)

    def _tell_rate(self, name: str, rows: int, rate: float, share: float) -> None:
        self.tell(name, self.found.get(name, {}) | {str(rows): {"per_second": rate, "share_of_peak": share}})

    def bare_loop(self, pages: list[Page]) -> None:
        """Time both towers on full batches that lie on the device: what the engine's rate is compared with."""
        most, pages_a_turn = self._shapes.image_rows[-1], self._shapes.text_rows[-1]
        image = self._on_device(self._bundle.look.prepare(pages[0].image))
        batch = {name: torch.stack([tensor] * most) for name, tensor in image.items()}
        texts = torch.ones(2, pages_a_turn, 128, dtype=torch.int64, device=self._device)
        titles = texts[:, :, :32].contiguous()

        def turn() -> None:
            for _ in range(pages_a_turn // most):
                self._bundle.look._features(**batch)  # type: ignore[attr-defined]
            self._bundle.text._forward(*texts)
            self._bundle.text._forward(*titles)

        self.tell("bare_pages_per_second", pages_a_turn / self._time(turn))

    def steps(self, pages: list[Page]) -> None:
        """Time a page's preparation and judging on the processor, and the encoder with all its copies."""
        encoder, judge = self._engine._encoder, self._engine._judge
        began = time.perf_counter()
        prepared = [encoder.prepare(page) for page in pages]
        self.tell("prepare_ms", (time.perf_counter() - began) / len(pages) * 1000)
        began = time.perf_counter()
        with ThreadPoolExecutor(self._settings.preparers) as threads:
            list(threads.map(encoder.prepare, pages))
        self.tell("prepared_pages_per_second", len(pages) / (time.perf_counter() - began))
        parts: dict[str, Callable[[Page], object]] = {
            "see": lambda page: see(page, self._bundle.cues, cue_idf=None),
            "image": self._prepare_image,
        }
        for name, work in parts.items():
            began = time.perf_counter()
            for page in pages:
                work(page)
            self.tell(f"prepare_{name}_ms", (time.perf_counter() - began) / len(pages) * 1000)
        self.tell("tokens", statistics.median(len(one.tokens[0]) for one in prepared))
        for count in self._shapes.image_rows:
            some = (prepared * count)[:count]
            seconds = self._clock(lambda some=some: encoder.evidence(some))  # type: ignore[misc]
            self.tell("encoder", self.found.get("encoder", {}) | {str(count): count / seconds})
        found = encoder.evidence(prepared[: self._shapes.image_rows[-1]])
        judge.answer(found[0], QUESTION)
        began = time.perf_counter()
        for evidence in found:
            judge.answer(evidence, QUESTION)
        self.tell("judge_ms", (time.perf_counter() - began) / len(found) * 1000)
        if self._device == "cuda":
            most = (prepared * 64)[: self._shapes.image_rows[-1]]
            self.tell("encoder_timeline", device_timeline(lambda: [encoder.evidence(most) for _ in range(3)]))

    def _prepare_image(self, page: Page) -> Prepared:
        return self._bundle.look.prepare(page.image)

    def latency(self, pages: list[Page], *, count: int) -> None:
        """Ask about one page at a time, nothing else queued."""
        times = []
        for number in range(count):
            began = time.perf_counter()
            self._engine.submit(pages[number % len(pages)], QUESTION).result(120)
            times.append((time.perf_counter() - began) * 1000)
        self.tell("latency_ms", {"median": statistics.median(times), "worst": max(times)})

    def throughput(self, pages: list[Page], *, seconds: float) -> None:
        """Keep the engine's queue full for some seconds, the time until it is full not counted."""
        self._batches.take()
        depth = 2 * self._settings.most_pages_at_once
        waiting = deque(self._engine.submit(pages[number % len(pages)], QUESTION) for number in range(depth))
        for _ in range(depth // 2):
            waiting.popleft().result(120)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            while len(waiting) < depth:
                waiting.append(self._engine.submit(pages[(done + len(waiting)) % len(pages)], QUESTION))
            waiting.popleft().result(120)
            done += 1
        rate = done / (time.perf_counter() - began)
        for future in waiting:
            future.result(120)
        self.tell("engine_pages_per_second", rate)
        self.tell("engine_batches", self._batches.take())
        if "bare_pages_per_second" in self.found:
            self.tell("engine_share_of_bare", rate / self.found["bare_pages_per_second"])

    def trickle(self, pages: list[Page], *, per_second: float, count: int) -> None:
        """Send pages at a steady pace below the engine's capacity: none waits for others to fill a batch."""
        self._batches.take()
        times: list[float] = []
        waiting = []
        began = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            sent = time.perf_counter()
            future = self._engine.submit(pages[number % len(pages)], QUESTION)
            future.add_done_callback(lambda _, sent=sent: times.append((time.perf_counter() - sent) * 1000))  # type: ignore[misc]
            waiting.append(future)
        for future in waiting:
            future.result(120)
        told = {"per_second": per_second, "median_ms": statistics.median(times), "worst_ms": max(times)}
        self.tell("trickle", told | {"batches": self._batches.take()})

    def equality(self, pages: list[Page]) -> None:
        """Compare what is found of pages alone with what is found of them in the largest batch."""
        encoder, judge = self._engine._encoder, self._engine._judge
        prepared = [encoder.prepare(page) for page in pages[: self._shapes.image_rows[-1]]]
        together, alone = encoder.evidence(prepared), [encoder.evidence([one])[0] for one in prepared]
        answers = [np.stack([judge.answer(one, QUESTION).probabilities for one in some]) for some in (together, alone)]
        looks, texts = (
            [np.stack([getattr(one, kind).ravel() for one in some]) for some in (together, alone)]
            for kind in ("look", "texts")
        )
        self.tell("equality", {
            "pages": len(prepared),
            "largest_score_difference": float(np.abs(answers[0] - answers[1]).max()),
            "best_name_changes": int((answers[0].argmax(axis=1) != answers[1].argmax(axis=1)).sum()),
            "look_largest_difference": float(np.abs(looks[0] - looks[1]).max()),
            "text_largest_difference": float(np.abs(texts[0] - texts[1]).max()),
            "look_spread_of_pages": float(looks[1].std(axis=0).mean()),
            "text_spread_of_pages": float(texts[1].std(axis=0).mean()),
            "score_spread_of_pages": float(answers[1].std(axis=0).mean()),
        })  # fmt: skip

    def half_weights(self, pages: list[Page]) -> None:
        """Put the weights themselves into bfloat16, so that nothing is cast on the way, and time it again."""
        for model in (self._bundle.text._model, self._bundle.look._model):  # type: ignore[attr-defined]
            model.to(torch.bfloat16)
        kept, self.found = self.found, {}
        encoder = self._engine._encoder
        one = encoder.prepare(pages[0])
        self.bare_loop(pages)
        alone_ms = self._clock(lambda: encoder.evidence([one])) * 1000
        self.found = kept | {"half_weights": {
            "bare_pages_per_second": self.found["bare_pages_per_second"], "encoder_alone_ms": alone_ms,
        }}  # fmt: skip
        self._keep(self.found)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def _time(self, work: Callable[[], object]) -> float:
        with torch.inference_mode(), self._engine._encoder._autocast():
            return self._watch.median(work, repeats=self._repeats)

    def _clock(self, work: Callable[[], object]) -> float:
        work()
        began = time.perf_counter()
        for _ in range(self._repeats):
            work()
        return (time.perf_counter() - began) / self._repeats

    def _on_device(self, image: Prepared) -> Prepared:
        return {name: tensor.to(self._device) for name, tensor in image.items()}

    def _synchronize(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def settings_of(way: str, device: str, *, is_tiny: bool) -> EngineSettings:
    """Return the worker's own settings for a GPU, changed as the way asks."""
    encoder = replace(GPU_SETTINGS.encoder, is_compiled=way == "blocks")
    if is_tiny:
        shapes = replace(encoder.shapes, image_rows=(1, 4), text_rows=(1, 8), text_tokens=(32, 128))
        encoder = replace(encoder, shapes=shapes, compile_backend="eager" if device == "cpu" else "inductor")
    return replace(GPU_SETTINGS, encoder=encoder)


def compile_whole(bundle: Bundle) -> None:
    """Compile each tower as one graph for each shape."""
    torch._dynamo.config.capture_scalar_outputs = True
    backend = "inductor" if bundle.text.device.type == "cuda" else "eager"
    bundle.text._model = torch.compile(bundle.text._model, dynamic=False, backend=backend)
    look: Any = bundle.look
    look._features = torch.compile(look._model.get_image_features, dynamic=False, backend=backend)


@contextmanager
def on_the_clock(bundle: Bundle, engine: Engine, tell: Callable[[str, float], None]) -> Iterator[None]:
    """Tell the seconds of each call of the towers meanwhile, by their static shape, and of learning the lexicon."""
    look, text, judge = bundle.look, bundle.text, engine._judge
    originals = look.encode, text.encode, judge.learn_lexicon

    def timed(name: Callable[..., str], work: Callable[..., Any]) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = work(*arguments, **named)
            tell(name(*arguments, **named), time.perf_counter() - began)
            return found

        return run

    look.encode = timed(lambda _, rows: f"look {rows}", look.encode)  # type: ignore[method-assign]
    text.encode = timed(lambda _, batch: f"text {batch.rows} x {batch.tokens}", text.encode)  # type: ignore[method-assign]
    judge.learn_lexicon = timed(lambda: "lexicon", judge.learn_lexicon)  # type: ignore[method-assign]
    try:
        yield
    finally:
        look.encode, text.encode, judge.learn_lexicon = originals  # type: ignore[method-assign]
