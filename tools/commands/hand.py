"""`hand`: articulated hands and bodies; its subcommands are in tools/hand/commands."""

from __future__ import annotations

import argparse

from ..hand.commands import COMMANDS

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "hand"
HELP = "articulated hands and bodies: convert, learn, fit, render, export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subcommands = parser.add_subparsers(metavar="SUBCOMMAND", title="subcommands", required=True)
    for command in COMMANDS:
        sub = subcommands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(hand_command=command)


def run(args: argparse.Namespace) -> int:
    return args.hand_command.run(args)
