"""Packed files: a trained field as few bytes, in one file."""
