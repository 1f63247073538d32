"""From a field to a clean mesh file."""

from .export import export_mesh
from .files import MESH_SUFFIXES, write_mesh
from .marching_cubes import extract_iso_surface
from .report import mesh_report
from .tsdf import fuse

__all__ = ["MESH_SUFFIXES", "export_mesh", "extract_iso_surface", "fuse", "mesh_report", "write_mesh"]
