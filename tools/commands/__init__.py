"""One file per command; each has NAME, HELP, add_arguments(parser) and run(args) -> exit code."""

from . import (
    edit_scene,
    evaluate,
    export_mesh,
    hand,
    measure,
    pack,
    render_image,
    render_video,
    render_views,
    train_image,
    train_scene,
    train_video,
    unpack,
)

__all__ = ["COMMANDS"]

COMMANDS = (
    train_scene,
    render_views,
    evaluate,
    export_mesh,
    edit_scene,
    train_image,
    render_image,
    train_video,
    render_video,
    pack,
    unpack,
    hand,
    measure,
)
"""All commands, in the order `--help` lists them."""
