"""Encodings of coordinates and directions."""
