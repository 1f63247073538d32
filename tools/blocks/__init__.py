"""Scenes of mesh primitives too large for one training: blocks that train apart and are joined where they are rendered."""
