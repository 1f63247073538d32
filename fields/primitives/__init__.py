"""Deformable mesh primitives: small closed meshes whose shape is a code on a sphere, decoded by one frozen network (DNMP)."""

from .appearance import PrimitiveAppearance
from .geometry import STARTS, PrimitiveGeometry
from .icosphere import Template, template
from .patches import KINDS, Patches, draw_patches
from .shape_space import (
    CODE,
    PatchEncoder,
    ShapeDecoder,
    ShapeSpace,
    bundled_shapes,
    load_shapes,
    save_shapes,
)
from .surface import chamfer, laplacian, surface_samples
from .voxels import Voxels, voxelise

__all__ = [
    "CODE",
    "KINDS",
    "STARTS",
    "PatchEncoder",
    "Patches",
    "PrimitiveAppearance",
    "PrimitiveGeometry",
    "ShapeDecoder",
    "ShapeSpace",
    "Template",
    "Voxels",
    "bundled_shapes",
    "chamfer",
    "draw_patches",
    "laplacian",
    "load_shapes",
    "save_shapes",
    "surface_samples",
    "template",
    "voxelise",
]
