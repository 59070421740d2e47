"""What the device could do at best, and what a batch asks of it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from classifier_worker.models.bundle import Bundle


class Stopwatch:
    """Seconds of work on the device: CUDA's events there, the clock on a CPU."""

    def __init__(self, device: str) -> None:
        self._is_cuda = device == "cuda"

    def median(self, work: Callable[[], object], *, repeats: int) -> float:
        """Return the median seconds of `work` over `repeats` runs, after one that is not counted."""
        work()
        return statistics.median(self._once(work) for _ in range(repeats))

    def _once(self, work: Callable[[], object]) -> float:
        if not self._is_cuda:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began
        event: Any = torch.cuda.Event
        first, last = event(enable_timing=True), event(enable_timing=True)
        first.record()
        work()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000


def peak_flops(device: str, *, is_tiny: bool) -> float:
    """Return the floating point operations a second of a large bfloat16 matrix product on this device."""
    size = 256 if is_tiny else 8192
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / Stopwatch(device).median(lambda: a @ b, repeats=10)


def text_flops(bundle: Bundle, rows: int, tokens: int) -> float:
    """Return the operations of a text batch: every weight but the table of tokens once a token, and attention."""
    model = bundle.text._model
    weights = _weights(model) - _weights(model.embed_tokens)
    told = model.config
    attention = 4 * tokens * told.num_attention_heads * told.head_dim * told.num_hidden_layers
    return float(rows * tokens * (2 * weights + attention))


def look_flops(bundle: Bundle, rows: int, patches: int) -> float:
    """Return the operations of an image batch, padding patches included."""
    vision = bundle.look._model.vision_model  # type: ignore[attr-defined]
    told = vision.config
    attention = 4 * patches * told.hidden_size * told.num_hidden_layers
    return float(rows * patches * (2 * _weights(vision) + attention))


def _weights(module: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
