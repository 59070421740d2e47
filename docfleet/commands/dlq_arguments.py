"""The arguments of `docfleet dlq`, without what the command needs when it runs."""

import argparse
from pathlib import Path
from typing import Any, Final

_MESSAGE: Final = "PARTITION:OFFSET"


def add(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `show`, `replay` and `drop`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    list_ = commands.add_parser("list", help="show the messages that were not dropped")
    list_.add_argument("--json", action="store_true", help="print one JSON object a message")
    list_.add_argument("--all", action="store_true", help="show dropped ones too")
    list_.set_defaults(run=_list)
    show = commands.add_parser("show", help="show one message in full, as JSON")
    show.add_argument("message", type=_address, metavar=_MESSAGE, help="as the list shows it")
    show.set_defaults(run=_show)
    replay = commands.add_parser("replay", help="publish messages of jobs that have not ended again")
    drop = commands.add_parser("drop", help="take messages off the list; the topic keeps them")
    for command, meaning in ((replay, "which"), (drop, "up to which, in its partition")):
        chosen = command.add_mutually_exclusive_group(required=True)
        chosen.add_argument("messages", type=_address, metavar=_MESSAGE, nargs="*", default=[], help=meaning)
        chosen.add_argument("--all", action="store_true", help="every message on the list")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    replay.set_defaults(run=_replay)
    drop.set_defaults(run=_drop)
    for command in (list_, show, replay, drop):
        command.add_argument(
            "--data-dir",
            type=Path,
            help="the local stack's data dir, used when KAFKA_BOOTSTRAP_SERVERS is not set (.docfleet)",
        )


def _list(options: argparse.Namespace) -> int:
    from docfleet.commands import dlq

    return dlq.show_all(options.data_dir, as_json=options.json, with_dropped=options.all)


def _show(options: argparse.Namespace) -> int:
    from docfleet.commands import dlq

    return dlq.show(options.data_dir, options.message)


def _replay(options: argparse.Namespace) -> int:
    from docfleet.commands import dlq

    return dlq.replay(options.data_dir, options.messages, is_all=options.all)


def _drop(options: argparse.Namespace) -> int:
    from docfleet.commands import dlq

    return dlq.drop(options.data_dir, options.messages, is_all=options.all, is_sure=options.yes)


def _address(text: str) -> Any:
    from docfleet.dead_letters import Address

    try:
        return Address.parse(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
