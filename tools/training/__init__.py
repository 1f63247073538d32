"""The training loop, its methods, runs and reports."""
