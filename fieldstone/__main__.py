"""The command line: `fieldstone <command>` and `train-scene`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fieldstone import __version__
from fieldstone.core.errors import UserError
from fieldstone.tools.commands import COMMANDS
from fieldstone.tools.commands.arguments import Parser

__all__ = ["build_parser", "main", "train_scene"]


def build_parser() -> Parser:
    """The parser of all commands. Imports neither torch nor anything else that is slow."""
    parser = Parser(
        prog="fieldstone",
        description="3D vision and neural fields that train on a plain CPU: posed photos in, "
        "new views and meshes out.",
    )
    parser.add_argument("--version", action="version", version=f"fieldstone {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(command=command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 done, 2 an error of the user's, 130 interrupted, 1 an error
    of ours.
    """
    args = build_parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        return args.command.run(args)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)
    except BrokenPipeError:  # the reader of our output has gone, as in `fieldstone evaluate RUN | head`
        sys.stdout = None
        return 1
    except (UserError, OSError) as error:
        if args.debug:
            raise
        return _failed(str(error), 2)
    except Exception as error:
        if args.debug:
            raise
        return _failed(f"unexpected {type(error).__name__}: {error}; run again with --debug to see where", 1)


def train_scene() -> int:
    """The console script `train-scene`."""
    return main(["train-scene", *sys.argv[1:]])


def _failed(message: str, code: int) -> int:
    print("fieldstone: error: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
