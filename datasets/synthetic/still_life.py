"""The bundled scene: a still life on a terrazzo cake stand that floats in the air.

It has a thin part (the candle, 5 cm thick in a scene of 1.6 m), concavities (the bowl, the ring, the
underside of the stand), smooth blends, fine and coarse textures, and mild highlights. Lengths below are in
its own unit; the scene lies within [-1, 1] along each axis, z up.
"""

from __future__ import annotations

from .materials import Material
from .shapes import Body, bowl, capsule, round_box, round_cone, round_cylinder, sphere, torus

__all__ = ["still_life"]

_TABLE = -0.45


def still_life() -> tuple[Body, ...]:
    """The bodies of the bundled scene."""
    stand = Body(
        shapes=(
            round_cylinder(0.86, 0.045, 0.03, centre=(0, 0, _TABLE - 0.045)),
            torus(0.84, 0.035, centre=(0, 0, _TABLE - 0.01), blend=0.03),
            round_cone(0.07, 0.14, 0.22, centre=(0, 0, -0.80), blend=0.10),
            round_cylinder(0.44, 0.035, 0.03, centre=(0, 0, -0.90), blend=0.12),
        ),
        material=Material("chips", ("#EFE7DA", "#C65D3B", "#2B7A78", "#E3A83E"), scale=0.11, gloss=0.08),
    )
    ball = Body(
        shapes=(sphere(0.27),),
        centre=(-0.38, 0.26, _TABLE + 0.268),
        rotation=(0.5, 0.3, 0.0),
        material=Material("marble", ("#F1EFEA", "#1F4B82"), scale=0.34, softness=0.01, gloss=0.22),
    )
    block = Body(
        shapes=(round_box((0.22, 0.22, 0.19), 0.03),),
        centre=(0.34, 0.34, _TABLE + 0.189),
        rotation=(0.0, 0.0, 0.45),
        material=Material("checker", ("#F4E3C1", "#DE7339"), scale=0.088, softness=0.006, gloss=0.06),
    )
    block_top = _TABLE + 0.379
    ring = Body(
        shapes=(torus(0.135, 0.042),),
        centre=(0.34, 0.34, block_top + 0.041),
        material=Material("sectors", ("#F2C14E", "#5B3A78"), scale=10, softness=0.006, gloss=0.2),
    )
    candle = Body(
        shapes=(round_cylinder(0.032, 0.30, 0.01),),
        centre=(0.34, 0.34, block_top + 0.298),
        material=Material("helix", ("#F7F3EC", "#C3304A"), scale=0.11, softness=0.006, gloss=0.1),
    )
    flame = Body(
        shapes=(round_cone(0.042, 0.008, 0.11),),
        centre=(0.34, 0.34, block_top + 0.63),
        material=Material("gradient", ("#F08A24", "#FFE27A"), scale=0.2, gloss=0.0),
    )
    pear = Body(
        shapes=(
            sphere(0.19),
            sphere(0.105, centre=(0.02, 0, 0.23), blend=0.14),
            capsule(0.05, 0.016, centre=(0.035, 0, 0.355), rotation=(0.0, 0.3, 0.0), blend=0.03),
        ),
        centre=(-0.20, -0.42, _TABLE + 0.188),
        rotation=(0.0, 0.0, 0.6),
        material=Material("gradient", ("#C9402F", "#C7C948"), scale=0.42, gloss=0.15),
    )
    dish = Body(
        shapes=(
            round_cylinder(0.10, 0.025, 0.01, centre=(0, 0, -0.235)),
            bowl(0.24, 0.02, 0.04, blend=0.04),
        ),
        centre=(0.44, -0.32, _TABLE + 0.258),
        material=Material("stripes", ("#1F8A8A", "#EAF3EE"), scale=0.12, softness=0.006, gloss=0.2),
    )
    cherries = tuple(
        Body(
            shapes=(sphere(radius),),
            centre=(0.44 + x, -0.32 + y, _TABLE + 0.258 + z),
            material=Material("plain", (colour,), gloss=0.3),
        )
        for x, y, z, radius, colour in (
            (-0.075, 0.02, -0.115, 0.08, "#B3202C"),
            (0.085, 0.03, -0.11, 0.08, "#7A1F3D"),
            (0.0, -0.09, -0.10, 0.075, "#D9862B"),
        )
    )
    return (ball, block, ring, candle, flame, pear, dish, *cherries, stand)
