"""Writes what Grafana and Kubernetes read: `python deploy/monitoring/generate.py --write`, or `--check` whether it is.

From boards/*.yml the dashboards/*.json, and from the plain rules/*.yml the PrometheusRule of prometheus-rule.yaml,
so that nothing is said twice by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
BOARDS: Final = sorted(HERE.glob("boards/*.yml"))
RULES: Final = sorted(HERE.glob("rules/*.yml"))
#: A selector in a query: a metric or a recorded series, with or without matchers.
SELECTOR: Final = re.compile(
    r"""\b(?P<name>docfleet[a-z0-9_:]+|process_[a-z_]+|up|ALERTS)\b(?P<matchers>\{(?:[^{}"]|"[^"]*")*\})?"""
)

_COLUMNS: Final = 24
_WIDTH: Final = 8
_HEIGHT: Final = 8
_QUANTILES: Final = (0.5, 0.95, 0.99)
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_VARIABLES: Final = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
    {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": "label_values(docfleet_build_info, namespace)",
        "query": {"query": "label_values(docfleet_build_info, namespace)", "refId": "namespaces"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",  # where there are no namespaces, none is as good as all
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    },
]
_LINKS: Final = [
    {"type": "dashboards", "title": "docfleet", "tags": ["docfleet"], "keepTime": True, "includeVars": True}
]


class _Readable(yaml.SafeDumper):
    """Writes texts of several lines as such."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def dashboard(board: Mapping[str, Any]) -> str:
    """Return a dashboard as Grafana's JSON."""
    text = {
        "uid": board["uid"],
        "title": board["title"],
        "tags": ["docfleet"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": _LINKS,
        "templating": {"list": _VARIABLES},
        "panels": [panel | {"id": number} for number, panel in enumerate(_laid_out(board["rows"]), 1)],
    }
    return json.dumps(text, indent=1) + "\n"


def queries(panel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the (legend, query) pairs of a panel, not yet narrowed to a namespace."""
    yield from panel.get("show", {}).items()
    if "quantiles" not in panel:
        return
    told = panel["quantiles"]
    matchers, by = f"{{{told['where']}}}" if "where" in told else "", told.get("by")
    for share in told.get("at", _QUANTILES):
        legend = f"p{share * 100:g}" + (f" {{{{{by}}}}}" if by else "")
        rates = f"rate({told['of']}_bucket{matchers}[$__rate_interval])"
        yield legend, f"histogram_quantile({share:g}, sum by ({f'{by}, le' if by else 'le'}) ({rates}))"


def narrowed(query: str) -> str:
    """Return the query with every selector narrowed to the dashboard's namespace."""

    def narrow(found: re.Match[str]) -> str:
        own = (found["matchers"] or "{}")[1:-1]
        return f'{found["name"]}{{{own + "," if own else ""}namespace=~"$namespace"}}'

    return SELECTOR.sub(narrow, query)


def prometheus_rule() -> str:
    """Return the rules as the object that the Prometheus operator reads."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "docfleet", "labels": {"app.kubernetes.io/name": "docfleet-rules"}},
        "spec": {"groups": groups},
    }
    head = "# Made from rules/*.yml by `python deploy/monitoring/generate.py --write`; do not edit.\n"
    return head + yaml.dump(rule, Dumper=_Readable, sort_keys=False, width=120)


def _laid_out(rows: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return Grafana's panels, each row's side by side as far as there is room."""
    top = 0
    for row in rows:
        yield {"type": "row", "title": row["title"], "collapsed": False, "gridPos": _place(0, top, _COLUMNS, 1)}
        left, top = 0, top + 1
        for panel in row["panels"]:
            width = panel.get("width", _WIDTH)
            if left + width > _COLUMNS:
                left, top = 0, top + _HEIGHT
            yield _panel(panel) | {"gridPos": _place(left, top, width, _HEIGHT)}
            left += width
        top += _HEIGHT


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    defaults: dict[str, Any] = {"unit": panel.get("unit", "short"), "min": 0}
    if kind == "timeseries":
        stacking = {"mode": "normal" if panel.get("stack") else "none"}
        defaults["custom"] = {"fillOpacity": 30 if panel.get("stack") else 5, "stacking": stacking}
    if "bad_from" in panel:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel["bad_from"]}]
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
    made: dict[str, Any] = {
        "type": kind,
        "title": panel["title"],
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [_target(panel, *pair, at=at) for at, pair in enumerate(queries(panel))],
    }
    if "meaning" in panel:
        made["description"] = panel["meaning"]
    if kind == "table":
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
    return made


def _target(panel: Mapping[str, Any], legend: str, query: str, *, at: int) -> dict[str, Any]:
    target: dict[str, Any] = {"refId": chr(ord("A") + at), "expr": narrowed(query), "legendFormat": legend or "__auto"}
    if panel.get("kind") in {"stat", "table"}:
        target |= {"instant": True, "range": False}
    if panel.get("kind") == "table":
        target["format"] = "table"
    if panel.get("exemplars"):
        target["exemplar"] = True
    return target


def files() -> dict[Path, str]:
    """Return every generated file with what it should say."""
    boards = [yaml.safe_load(file.read_text("utf-8")) for file in BOARDS]
    made = {HERE / "dashboards" / f"{board['uid']}.json": dashboard(board) for board in boards}
    return made | {HERE / "prometheus-rule.yaml": prometheus_rule()}


def main() -> int:
    """Return the exit code: 0 written or up to date, 1 stale."""
    parser = argparse.ArgumentParser(description="Write the dashboards and the PrometheusRule.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write them")
    mode.add_argument("--check", action="store_true", help="name the files that --write would change")
    is_check = parser.parse_args().check
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if not is_check:
        for path, text in stale.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return 0
    for path in stale:
        sys.stderr.write(f"stale: {path.name}; run `python deploy/monitoring/generate.py --write`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
