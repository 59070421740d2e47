"""`docfleet top`: the fleet on one screen, again and again on a terminal, once elsewhere."""

import asyncio
import dataclasses
import importlib.util
import json
import sys
from datetime import UTC, datetime
from math import isinf
from typing import Any

from docfleet.commands.top_screen import Line, lines
from docfleet.commands.top_snapshot import Snapshot, snapshot
from docfleet.commands.top_sources import NothingThere, Source


def run(source: Source, *, interval_seconds: float, is_once: bool, as_json: bool) -> int:
    """Show the fleet and return the exit code: 0, or 2 when there is nothing to look at."""
    is_live = sys.stdout.isatty() and not is_once and not as_json
    if is_live and importlib.util.find_spec("rich") is None:
        return _refuse("not installed: rich; run: pip install 'docfleet[top]', or use --once")
    try:
        if is_live:
            asyncio.run(_watch(source, interval_seconds))
        else:
            fleet = asyncio.run(_look_twice(source, interval_seconds))
            print(_json(fleet) if as_json else "\n".join(line.text.rstrip() for line in lines(fleet, source.title)))
    except NothingThere as fault:
        return _refuse(str(fault))
    except KeyboardInterrupt:
        return 0
    return 0


async def _look_twice(source: Source, interval_seconds: float) -> Snapshot:
    """Return a snapshot with rates, which need two looks."""
    now, before = await source.look()
    if before is None:
        await asyncio.sleep(interval_seconds)
        now, before = await source.look()
    return snapshot(now, before)


async def _watch(source: Source, interval_seconds: float) -> None:
    """Show the fleet until Ctrl-C; NothingThere when there is nothing at the first look."""
    from rich.live import Live
    from rich.text import Text

    styles = {"": "", "head": "bold", "bad": "bold red"}

    def shown(screen: list[Line]) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        for line in screen:
            text.append(f"{line.text}\n", styles[line.style])
        return text.append("\nCtrl-C ends", "dim")

    screen = lines(snapshot(*await source.look()), source.title)
    with Live(shown(screen), screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown(screen), refresh=True)
            await asyncio.sleep(interval_seconds)
            try:
                screen = lines(snapshot(*await source.look()), source.title)
            except NothingThere as fault:
                screen = [Line(f"docfleet top  {source.title}", "head"), Line(""), Line(str(fault), "bad")]


def _json(fleet: Snapshot) -> str:
    values = dataclasses.asdict(fleet) | {"at": datetime.fromtimestamp(fleet.at, UTC).isoformat()}
    return json.dumps(_finite(values), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """Return the value with None for what JSON has no number for: longer than the longest bucket."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and isinf(value) else value


def _refuse(sentence: str) -> int:
    print(f"docfleet top: {sentence}", file=sys.stderr)
    return 2
