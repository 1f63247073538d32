"""How a field or a mesh becomes pixels."""
