"""One file per subcommand of `fieldstone hand`; each has NAME, HELP, add_arguments(parser) and run(args) -> exit code."""

from . import capture, convert, export, fit, info, learn, render

__all__ = ["COMMANDS"]

COMMANDS = (convert, info, fit, learn, render, export, capture)
"""All subcommands, in the order `--help` lists them."""
