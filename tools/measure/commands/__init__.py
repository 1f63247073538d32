"""One file per subcommand of `fieldstone measure`; each has NAME, HELP, add_arguments(parser) and run(args) -> exit code."""

from . import (
    calibrate,
    circle,
    cone,
    cylinder,
    decode,
    flange,
    holes,
    info,
    line,
    match,
    plane,
    simulate,
    sphere,
    thread,
    tolerances,
    torus,
    verify_nist,
)

__all__ = ["COMMANDS"]

COMMANDS = (
    info,
    line,
    plane,
    circle,
    sphere,
    cylinder,
    cone,
    torus,
    thread,
    holes,
    flange,
    match,
    tolerances,
    decode,
    calibrate,
    verify_nist,
    simulate,
)
"""All subcommands, in the order `--help` lists them."""
