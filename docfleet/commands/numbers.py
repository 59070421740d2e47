"""Numbers on the command line, refused in a sentence that says what is allowed."""

import argparse
from typing import TypeVar

Number = TypeVar("Number", int, float)


def number(text: str, kind: type[Number], *, least: float, most: float) -> Number:
    """Return the number in a text; ArgumentTypeError when it is none or out of range."""
    try:
        found = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not least <= found <= most:
        raise argparse.ArgumentTypeError(f"{text} is not from {least} to {most}")
    return found
