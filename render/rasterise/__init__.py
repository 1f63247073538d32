"""Triangle meshes to pixels: which surfaces each ray meets, and everything differentiable built on that.

`fragments` finds the nearest faces of every pixel or ray (a back end does); attributes, textures, edges and layers are
then plain differentiable functions of what it found.
"""

from .antialiasing import antialias
from .contour import MeshEdges, mesh_edges
from .fragments import RASTERISING, Fragments, fragments
from .interpolation import face_normals, interpolate, vertex_normals
from .layers import LayerComposite, composite_layers, layer_order
from .picture import STYLES, camera_at, picture, write_picture
from .silhouette import soft_silhouette
from .texture import mip_pyramid, sample_texture, texture_level

__all__ = [
    "RASTERISING",
    "STYLES",
    "Fragments",
    "LayerComposite",
    "MeshEdges",
    "antialias",
    "camera_at",
    "composite_layers",
    "face_normals",
    "fragments",
    "interpolate",
    "layer_order",
    "mesh_edges",
    "mip_pyramid",
    "picture",
    "sample_texture",
    "soft_silhouette",
    "texture_level",
    "vertex_normals",
    "write_picture",
]
