"""Hears of every change of a job's state, so that what waits for its tenant's room need not wait for the next look."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import sql

from schemas.channels import JOBS_CHANNEL

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 2.0


async def hear_of_changes(dsn: str, on_change: Callable[[], None]) -> None:
    """Call `on_change` at each change until cancelled; connects again, for ever, when the connection is lost."""
    listen = sql.SQL("listen {}").format(sql.Identifier(JOBS_CHANNEL))
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                dsn, autocommit=True, connect_timeout=5, keepalives_idle=5, tcp_user_timeout=10_000
            ) as connection:
                await connection.execute(listen)
                async for _notification in connection.notifies():
                    on_change()
        except psycopg.Error as error:  # the relay looks by itself, only later
            _log.warning("changes are not heard", extra={"action": "listen", "why": str(error)})
            await asyncio.sleep(_RETRY_SECONDS)
