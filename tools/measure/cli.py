"""`fieldstone measure SUBCOMMAND`: the parser of all subcommands, and their exit codes.

0 measured, and in tolerance where a tolerance was given; 1 out of tolerance; 2 bad input; 3 undecided: the uncertainty reaches over
the limit; 4 the input is fine but what was asked for cannot be measured in it. An error of ours is 70 (sysexits' EX_SOFTWARE),
so that no script takes it for a part out of tolerance.
"""

from __future__ import annotations

import argparse
import sys
import traceback

from fieldstone.core.errors import UserError

from .commands import COMMANDS
from .commands.common import add_common
from .errors import NotMeasurable

__all__ = [
    "BAD_INPUT",
    "INTERNAL",
    "IN_TOLERANCE",
    "NOT_MEASURABLE",
    "OUT_OF_TOLERANCE",
    "UNDECIDED",
    "add_subcommands",
    "run",
]

IN_TOLERANCE, OUT_OF_TOLERANCE, BAD_INPUT, UNDECIDED, NOT_MEASURABLE, INTERNAL = 0, 1, 2, 3, 4, 70


def add_subcommands(parser: argparse.ArgumentParser) -> None:
    """Adds every subcommand with its own and the common arguments. Imports nothing heavy."""
    subparsers = parser.add_subparsers(metavar="SUBCOMMAND", title="subcommands", required=True)
    for command in COMMANDS:
        sub = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        add_common(sub)
        sub.set_defaults(measurement=command)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen subcommand and returns its exit code."""
    try:
        return args.measurement.run(args)
    except NotMeasurable as error:
        _print_error(error, args.debug)
        return NOT_MEASURABLE
    except (UserError, OSError) as error:
        _print_error(error, args.debug)
        return BAD_INPUT
    except BrokenPipeError:
        raise
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
        _print_error(RuntimeError(message), False)
        if args.debug:
            traceback.print_exc()
        return INTERNAL


def _print_error(error: Exception, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    print("fieldstone: error: " + " ".join(str(error).split()), file=sys.stderr)
