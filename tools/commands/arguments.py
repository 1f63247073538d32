"""What the commands share in reading their arguments. Imports nothing heavy: `--help` has to be quick."""

from __future__ import annotations

import argparse
import json
import math

__all__ = ["Parser", "number", "positive_int", "setting", "whole"]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, as all our errors are."""

    def error(self, message: str) -> None:
        self.exit(2, f"fieldstone: error: {message} (see {self.prog} --help)\n")


def number(text: str) -> float:
    """A finite number above zero."""
    value = _parsed(float, text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
    return value


def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    value = _parsed(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    value = _parsed(int, text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 0")
    return value


def setting(text: str) -> tuple[str, object]:
    """ "key=value" as a pair; the value is read as JSON where it is JSON, else taken as text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: write it as key=value")
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value


def _parsed(kind: type, text: str):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a {'whole ' if kind is int else ''}number"
        ) from None
