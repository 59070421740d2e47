"""What the metric catalogue is made of: sections of metrics, each exposed by certain services, with bounded labels.

A metric is exposed only by the services of its section, or a worker's `/metrics` would say that the outbox is empty
and hide that producer_api is down. Series whose labels are known beforehand start at 0, or the first error of
a kind would not be an increase for Prometheus.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge, Histogram

Metric = Counter | Gauge | Histogram
Kind = TypeVar("Kind", Counter, Gauge, Histogram)

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def name_of(metric: Metric) -> str:
    """Return a metric's name as queries spell it; samples of a histogram add `_bucket`, `_sum` and `_count`."""
    (family,) = metric.describe()
    return family.name + ("_total" if family.type == "counter" else "")


@dataclass(frozen=True, slots=True)
class Open:
    """The values of a label that are not known beforehand, but few: what they are, and how each looks."""

    meaning: str
    pattern: re.Pattern[str]


#: The values that a label may have.
Values = tuple[str, ...] | Open


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric with what its labels may say and the series that start at 0."""

    metric: Metric
    labels: Mapping[str, Values]
    first: tuple[tuple[str, ...], ...]
    is_late: bool = False  #: not exposed before it is known: a 0 would be a lie

    @property
    def name(self) -> str:
        """The metric's name as queries spell it."""
        return name_of(self.metric)

    @property
    def kind(self) -> str:
        """Counter, gauge or histogram."""
        (family,) = self.metric.describe()
        return str(family.type)

    @property
    def meaning(self) -> str:
        """One sentence."""
        (family,) = self.metric.describe()
        return str(family.documentation)


@dataclass(slots=True)
class Section:
    """Metrics that belong together, and the services that expose them."""

    title: str
    services: tuple[str, ...]
    entries: list[Entry] = field(default_factory=list)

    def counter(
        self,
        name: str,
        meaning: str,
        labels: Mapping[str, Values] | None = None,
        first: Iterable[tuple[str, ...]] | None = None,
    ) -> Counter:
        """Add a counter; `first` names the series that start at 0 when not all combinations make sense."""
        return self._add(Counter(name, meaning, tuple(labels or ()), registry=None), labels, first)

    def gauge(
        self, name: str, meaning: str, labels: Mapping[str, Values] | None = None, *, is_late: bool = False
    ) -> Gauge:
        """Add a gauge. One with labels says nothing before it is first set, one that is late not before `reveal`."""
        return self._add(Gauge(name, meaning, tuple(labels or ()), registry=None), labels, (), is_late=is_late)

    def histogram(
        self,
        name: str,
        meaning: str,
        labels: Mapping[str, Values] | None = None,
        buckets: tuple[float, ...] = SECONDS,
    ) -> Histogram:
        """Add a histogram."""
        return self._add(Histogram(name, meaning, tuple(labels or ()), buckets=buckets, registry=None), labels, None)

    def _add(
        self,
        metric: Kind,
        labels: Mapping[str, Values] | None,
        first: Iterable[tuple[str, ...]] | None,
        *,
        is_late: bool = False,
    ) -> Kind:
        known = labels or {}
        self.entries.append(Entry(metric, known, tuple(_combinations(known) if first is None else first), is_late))
        return metric


def _combinations(labels: Mapping[str, Values]) -> Iterable[tuple[str, ...]]:
    """Return every series of labels that are all known beforehand; none when one is not, or there are none."""
    known = [values for values in labels.values() if not isinstance(values, Open)]
    return itertools.product(*known) if known and len(known) == len(labels) else ()
