"""A video as a small network: frame number in, frame out, its features scaled and shifted over time (Lee et al. 2024, CAM)."""

from .generator import FrameGenerator
from .shape import GeneratorShape, generator_shape

__all__ = ["FrameGenerator", "GeneratorShape", "generator_shape"]
