"""The command `docfleet`: for people; services start as `python -m <service>`.

Only the arguments are here; each subcommand imports what it needs when it is called, so that
`docfleet classify` works where the servers of `docfleet up` are not installed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from docfleet.commands import dlq_arguments, evaluate, top_arguments
from docfleet.commands.numbers import number

_DEFAULT_DATA_DIR: Final = Path(".docfleet")
#: What `--none-of-these` means without a number, as `none_of_these=true` does.
_USUAL_THRESHOLD: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; 2 is wrong usage."""
    told = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(told, argparse.Namespace(told=told))
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docfleet", description="A self-hosted, zero-shot document classifier.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", help="start the whole system on this machine and run it until Ctrl-C"))
    _add_classify(commands.add_parser("classify", help="post documents to a running system and show its answers"))
    top_arguments.add(commands.add_parser("top", help="watch a running fleet on one screen"))
    _add_evaluate(commands.add_parser("evaluate", help="measure how good answers are on labelled documents"))
    _add_keys(commands.add_parser("keys", help="create, list and revoke API keys"))
    dlq_arguments.add(commands.add_parser("dlq", help="look at dead letters, replay and drop them"))
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, default=8080, help="the one port in front; 0 picks a free one (8080)")
    _add_data_dir(parser, "folder that holds all data between two runs")
    parser.add_argument("--workers", type=_not_negative, default=1, help="how many classifier workers (1)")
    parser.add_argument("--monitoring", action="store_true", help="also start Prometheus with the alert rules")
    parser.set_defaults(run=_run_up)


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PDF or image")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("-c", "--category", nargs="+", action="extend", metavar="NAME", help="name of a category")
    names.add_argument("--categories", type=Path, metavar="FILE", help="file with one category a line, or a JSON array")
    parser.add_argument(
        "--none-of-these",
        type=_share,
        nargs="?",
        const=_USUAL_THRESHOLD,
        metavar="T",
        help=f"let the answer be that no category fits, from this probability on ({_USUAL_THRESHOLD})",
    )
    parser.add_argument("--evidence", action="store_true", help="show for every page what decided")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file, in the order of the files")
    parser.add_argument("--pages", action="store_true", help="show every page in the table")
    parser.add_argument("--url", help="address of the system (DOCFLEET_URL, else the local stack's)")
    parser.add_argument("--api-key", help="API key (DOCFLEET_API_KEY, else the local stack's)")
    _add_data_dir(parser, "the local stack's data dir")
    parser.add_argument("--timeout", type=_seconds, default=600.0, help="most seconds to wait for each answer (600)")
    parser.set_defaults(run=_run_classify)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    evaluate.add_arguments(parser)
    parser.set_defaults(run=_run_evaluate)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="create a key and print it, this once")
    create.add_argument(
        "--name", type=_key_name, required=True, help="who it is for; keys of one name see the same jobs"
    )
    create.add_argument("--quota", type=_not_negative, default=1000, help="how many jobs it may post in all (1000)")
    create.add_argument("--rate", type=_positive, help="how many posts a minute (no limit)")
    create.set_defaults(run=_run_keys_create)
    list_ = commands.add_parser("list", help="show all keys, without the keys themselves")
    list_.set_defaults(run=_run_keys_list)
    revoke = commands.add_parser("revoke", help="make a key invalid")
    revoke.add_argument("key", metavar="KEY_ID|PREFIX")
    revoke.set_defaults(run=_run_keys_revoke)
    for command in (create, list_, revoke):
        _add_data_dir(command, "the local stack's data dir, used when DATABASE_URL is not set", default=None)


def _add_data_dir(parser: argparse.ArgumentParser, meaning: str, default: Path | None = _DEFAULT_DATA_DIR) -> None:
    parser.add_argument("--data-dir", type=Path, default=default, help=f"{meaning} ({_DEFAULT_DATA_DIR})")


def _run_up(options: argparse.Namespace) -> int:
    from docfleet.stack import up

    return up.run(
        port=options.port, data_dir=options.data_dir, workers=options.workers, with_monitoring=options.monitoring
    )


def _run_classify(options: argparse.Namespace) -> int:
    from docfleet.commands import classify

    try:
        order = classify.Order(
            files=options.files,
            categories=options.category or classify.read_categories(options.categories),
            system=classify.find_system(options.url, options.api_key, options.data_dir),
            options=classify.options(options.none_of_these, is_evidence_wanted=options.evidence),
            timeout_seconds=options.timeout,
        )
        return classify.run(order, as_json=options.json, with_pages=options.pages)
    except classify.UsageError as error:
        return _refuse("classify", error)


def _run_evaluate(options: argparse.Namespace) -> int:
    return evaluate.start(options, options.told[1:])


def _run_keys_create(options: argparse.Namespace) -> int:
    from docfleet.commands import keys

    return keys.create(options.data_dir, name=options.name, quota_limit=options.quota, rate_per_minute=options.rate)


def _run_keys_list(options: argparse.Namespace) -> int:
    from docfleet.commands import keys

    return keys.show(options.data_dir)


def _run_keys_revoke(options: argparse.Namespace) -> int:
    from docfleet.commands import keys

    return keys.revoke(options.data_dir, options.key)


def _refuse(command: str, error: Exception) -> int:
    print(f"docfleet {command}: {error}", file=sys.stderr)
    return 2


def _port(text: str) -> int:
    return number(text, int, least=0, most=65535)


def _positive(text: str) -> int:
    return number(text, int, least=1, most=2**31 - 1)


def _not_negative(text: str) -> int:
    return number(text, int, least=0, most=2**31 - 1)


def _seconds(text: str) -> float:
    return number(text, float, least=0.001, most=86_400)


def _share(text: str) -> float:
    return number(text, float, least=0.0, most=1.0)


def _key_name(text: str) -> str:
    if not 1 <= len(text.strip()) <= 200:
        raise argparse.ArgumentTypeError("a name has 1 to 200 characters")
    return text.strip()


if __name__ == "__main__":
    sys.exit(main())
