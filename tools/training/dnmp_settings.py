"""Settings of the method "dnmp", and its presets."""

from __future__ import annotations

from dataclasses import dataclass

from fieldstone.core.errors import UserError

from ...fields.primitives import STARTS
from .methods import read_settings

__all__ = ["PRESETS", "DnmpSettings", "dnmp_settings"]


@dataclass
class DnmpSettings:
    """Everything the user may set with `--set key=value`. None: the preset's."""

    preset: str = "default"
    """"paper": vertex features only and a head of 8 layers of 256; "light": three layers and half the head; or "default"."""
    voxel: float = 0.5
    """Side of the finest voxels, in source units (metres); each further scale is twice as wide."""
    scales: int | None = None
    minimum_points: int = 3
    """A voxel with fewer points gets no primitive."""
    points_share: float = 1.0
    """Of the points that are used; the others are dropped at random, to see what depends on them."""
    start: str | None = None
    """Shape a primitive starts from: "encoder" or "pca" (of the points in its voxel) or "sphere" (the paper's)."""
    shapes: str = "codes"
    """What is learned of a shape: "codes" of the frozen decoder, or "vertices", each free."""
    geometry_share: float = 0.15
    """Share of the budget that goes to shapes (stage 1); then they are frozen and the rest goes to colours (stage 2)."""
    primitives_a_step: int = 2048
    depth_weight: float = 0.5
    """Of the rendered z_depth against that of points that a view sees, relative to it; 0 for none. Every fourth step of stage 1."""
    spare: float = 0.3
    """Primitives that densifying may add, as a share of those that points gave (2048 at least); 0: none are added."""
    sweep: bool = False
    """For densifying, look for points in the photographs too, where no primitive is."""
    prune: float = 1e-3
    """Primitives that weigh less than this in every pixel of every training view are removed half-way through stage 2; 0: none."""
    joint: bool = False
    """In the second half of stage 2 let photographs move shapes too."""
    layers: int | None = None
    """Surfaces along a ray that are blended, of all scales together, in the order of their depth."""
    features: int | None = None
    """Free numbers at each vertex."""
    frequencies: int | None = None
    """Sines and cosines of those, for the head."""
    hash_levels: int | None = None
    """Levels of the shared hash grid read at the surface; 0 for none."""
    hidden: int | None = None
    hidden_layers: int | None = None
    view_dependent: bool = True
    far: bool = True
    """Learn a small radiance field for what the primitives leave open; without it there is only a sky that knows directions."""
    far_levels: int | None = None
    """Levels of its hash grid."""
    far_step: float | None = None
    """Length of its steps over their distance."""
    pixels: int = 4096
    views_a_step: int = 4
    learning_rate: float = 1e-2
    """Of vertex features, grids and heads."""
    shape_learning_rate: float = 1e-2
    exposure: bool = False
    """Learn a gain per image and channel."""
    backend: str = "auto"
    precision: str = "auto"


PRESETS = {
    "paper": {
        "scales": 2, "layers": 6, "features": 21, "frequencies": 6, "hash_levels": 0, "hidden": 256, "hidden_layers": 8,
        "start": "sphere", "far_levels": 12, "far_step": 1 / 40,
    },
    "default": {
        "scales": 2, "layers": 4, "features": 8, "frequencies": 0, "hash_levels": 12, "hidden": 64, "hidden_layers": 1,
        "start": "encoder", "far_levels": 12, "far_step": 1 / 40,
    },
    "light": {
        "scales": 2, "layers": 3, "features": 4, "frequencies": 0, "hash_levels": 10, "hidden": 32, "hidden_layers": 1,
        "start": "encoder", "far_levels": 8, "far_step": 1 / 24,
    },
}  # fmt: skip


def dnmp_settings(chosen: dict) -> DnmpSettings:
    """`chosen` with the preset's values and defaults filled in. UserError for what is unknown or out of range."""
    options = read_settings(DnmpSettings, chosen, "dnmp")
    if options.preset not in PRESETS:
        raise UserError(f"dnmp: preset {options.preset!r}; there are {', '.join(PRESETS)}")
    if options.start is not None and options.start not in STARTS:
        raise UserError(f"dnmp: start {options.start!r}; there are {', '.join(STARTS)}")
    if options.shapes not in ("codes", "vertices"):
        raise UserError(f"dnmp: shapes {options.shapes!r}; there are codes, vertices")
    if not 0 < options.points_share <= 1:
        raise UserError(f"dnmp: points_share {options.points_share}; give a number above 0, up to 1")
    if options.spare < 0 or options.prune < 0:
        raise UserError(f"dnmp: spare {options.spare}, prune {options.prune}; give 0 or more")
    if not 0 < options.geometry_share <= 1:
        raise UserError(f"dnmp: geometry_share {options.geometry_share}; give a number above 0, up to 1")
    for key, value in PRESETS[options.preset].items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    if options.features == 0 and options.hash_levels == 0:
        raise UserError("dnmp: neither features nor hash_levels; give at least one of them above 0")
    return options
