"""The models of the ack tracker and of a job's life notice when the code is wrong: each mutant below is caught."""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test

from schemas import events, lifecycle
from tests.unit import test_lifecycle
from tests.unit.worker.inflight_model import AnyOrder

HELD, INFLIGHT = "classifier_worker.core.held", "classifier_worker.core.inflight"

#: Finding a fault is enough, so nothing is shrunk; the same examples each time.
HUNT = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def mutated(name: str, before: str, after: str) -> types.ModuleType:
    """Return a copy of a module in which one piece of text is another."""
    original = importlib.import_module(name)
    source = Path(str(original.__file__)).read_text()
    assert source.count(before) == 1, f"the mutant has no single place in {name}: {before}"
    module = types.ModuleType(name)
    sys_module, sys.modules[name] = sys.modules[name], module
    try:
        exec(compile(source.replace(before, after), name, "exec"), module.__dict__)  # noqa: S102
    finally:
        sys.modules[name] = sys_module
    return module


def hunt(tracker: Any) -> None:
    machine = type("Mutant", (AnyOrder,), {"tracker": tracker})
    run_state_machine_as_test(machine, settings=HUNT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return next(iter(assignment.unfinished), assignment.next_offset)", "return assignment.next_offset"),
        ("done > mark}", "done >= mark - 1}"),
        ("assignment.ahead.add(offset)", "assignment.ahead.add(offset + 1)"),
        ("if offset in assignment.known_done:", "if False:"),
        ("known_done=done, known_from=mark", "known_done=frozenset(range(mark + 1)), known_from=mark"),
        ("and assignment.epoch == ticket.epoch", ""),
        ("self._assignments[partition].is_leaving = True", "pass"),
        ("if self._assignments.pop(partition, None) is not None:", "if False:"),
        ("assignment.unfinished.pop(offset, None)", "pass"),
        ("self._last_epoch += 1", ""),
        ("moved[partition] = mark", "moved[partition] = mark + 1"),
    ],
)
def test_a_mutant_of_the_partitions_is_caught(before: str, after: str) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError)):
        hunt(mutated(INFLIGHT, before, after).Inflight)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if self.jobs >= self.bounds.jobs:", "if self.jobs > self.bounds.jobs:"),
        ("if self.bytes and self.bytes + document_bytes > self.bounds.document_bytes:", "if False:"),
        ("if self.bytes and self.bytes + document_bytes >", "if self.bytes + document_bytes >"),
        (
            "self.bytes + document_bytes > self.bounds.document_bytes",
            "self.bytes + document_bytes >= self.bounds.document_bytes",
        ),
        ("self.bytes -= self._admitted.pop(ticket, None) or 0", "self._admitted.pop(ticket, None)"),
        ("self.bytes += document_bytes", "self.bytes = document_bytes"),
        ("elif self.jobs <= self.bounds.resume_jobs and", "elif self.jobs < self.bounds.resume_jobs and"),
    ],
)
def test_a_mutant_of_the_bounds_is_caught(before: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = mutated(HELD, before, after)
    monkeypatch.setitem(sys.modules, HELD, held)
    mutant = mutated(INFLIGHT, "class Inflight(Held)", "class Inflight(Held)")
    with pytest.raises((AssertionError, ValueError, KeyError)):
        hunt(mutant.Inflight)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RANK[target] > RANK[state]", "RANK[target] >= RANK[state]"),
        ("RANK[target] > RANK[state]", "True"),
        ("RANK[target] > RANK[state]", "False"),
        ("events.ClassificationStarted: JobState.PROCESSING", "events.ClassificationStarted: JobState.COMPLETED"),
        ("dict.fromkeys(TERMINAL, 2)", "{JobState.COMPLETED: 3, JobState.FAILED: 2, JobState.CANCELLED: 2}"),
        ("dict.fromkeys(TERMINAL, 2)", "dict.fromkeys(TERMINAL, 1)"),
    ],
)
def test_a_mutant_of_the_life_of_a_job_is_caught(before: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = mutated("schemas.lifecycle", before, after)

    def advance(state: lifecycle.JobState, event: events.Event) -> lifecycle.JobState:
        return lifecycle.JobState(mutant.advance(mutant.JobState(state), event))

    monkeypatch.setattr(test_lifecycle, "advance", advance)
    inner = test_lifecycle.test_last_state_is_that_of_the_first_terminal_event.hypothesis.inner_test  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        HUNT(given(test_lifecycle.ANY_EVENTS)(lambda said: inner(said)))()
