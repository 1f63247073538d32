"""One file per command; each has NAME, HELP, add_arguments(parser) and run(args) -> exit code."""

from . import evaluate, export_mesh, hand, measure, render_views, train_scene

__all__ = ["COMMANDS"]

COMMANDS = (train_scene, render_views, evaluate, export_mesh, hand, measure)
"""All commands, in the order `--help` lists them."""
