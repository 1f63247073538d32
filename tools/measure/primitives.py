"""The primitives: what is fitted, in which local unknowns, and what is reported of it.

The residuals, with (x, y, z) local and rho = sqrt(x^2 + y^2) (orthogonal distances, Shakarji, J. Res. NIST 103 (1998) 633):

    line      (x, y)                                  unknowns cx cy tx ty
    plane     z                                       cz tx ty
    circle    (rho - radius, z)                       cx cy cz tx ty radius
    sphere    sqrt(rho^2 + z^2) - radius              cx cy cz radius
    cylinder  rho - radius                            cx cy tx ty radius
    cone      rho cos a - z sin a - s                 cx cy tx ty s a      (a: half the apex angle; s: distance of the origin to the surface)
    torus     sqrt((rho - major)^2 + z^2) - minor     cx cy cz tx ty major minor
    ring      rho - radius                            cx cy radius         (a circle in a given plane: z plays no part)

c is the shift of the origin, t the tilt of the z axis towards x and y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import Frame

__all__ = ["PRIMITIVES", "Primitive"]

_UNKNOWNS = ("cx", "cy", "cz", "tx", "ty", "s0", "s1")


@dataclass(frozen=True)
class Primitive:
    name: str
    code: int
    """What the kernels know it by."""
    unknowns: tuple[str, ...]
    """In the order of the Jacobian's columns; s0 and s1 are `Frame.sizes`."""
    dimensions: int = 1
    """Residuals per point."""
    sample: int = 3
    """Points of a minimal sample."""
    needs_normals: bool = False
    """Whether minimal samples need the surface's normals."""

    def step(self, frame: Frame, delta: np.ndarray) -> Frame:
        """The frame after the unknowns changed by `delta` (k,)."""
        full = np.zeros(7)
        full[[_UNKNOWNS.index(name) for name in self.unknowns]] = delta
        return frame.moved(full[:3], full[3:5], full[5:])

    def columns(self, fixed: tuple[str, ...]) -> np.ndarray:
        """Indices of the unknowns that stay when "axis" and/or "radius" are fixed."""
        held = {"tx", "ty"} if "axis" in fixed else set()
        held |= {"s0"} if "radius" in fixed else set()
        return np.array([i for i, name in enumerate(self.unknowns) if name not in held])

    def parameters(self, frame: Frame) -> tuple[dict, dict[str, np.ndarray]]:
        """What is reported, in the frame's world coordinates: {name: value}, and {name: Jacobian (len, k) by the unknowns}."""
        x, y, z = frame.axes
        k = len(self.unknowns)
        at = {name: i for i, name in enumerate(self.unknowns)}
        place = np.zeros((3, k))
        for name, axis in (("cx", x), ("cy", y), ("cz", z)):
            if name in at:
                place[:, at[name]] = axis
        turn = np.zeros((3, k))
        for name, axis in (("tx", x), ("ty", y)):
            if name in at:
                turn[:, at[name]] = axis
        size = np.zeros((2, k))
        for i, name in enumerate(("s0", "s1")):
            if name in at:
                size[i, at[name]] = 1.0
        origin, (s0, s1) = frame.origin, frame.sizes
        if self.name in ("line", "plane"):
            direction = "direction" if self.name == "line" else "normal"
            return {"point": origin, direction: z}, {"point": place, direction: turn}
        if self.name in ("circle", "ring"):
            return (
                {"centre": origin, "normal": z, "radius": s0},
                {"centre": place, "normal": turn, "radius": size[:1]},
            )
        if self.name == "sphere":
            return {"centre": origin, "radius": s0}, {"centre": place, "radius": size[:1]}
        if self.name == "cylinder":
            return (
                {"axis_point": origin, "axis_direction": z, "radius": s0},
                {"axis_point": place, "axis_direction": turn, "radius": size[:1]},
            )
        if self.name == "torus":
            return (
                {"centre": origin, "axis_direction": z, "major_radius": s0, "minor_radius": s1},
                {"centre": place, "axis_direction": turn, "major_radius": size[:1], "minor_radius": size[1:]},
            )
        sine, cosine = np.sin(s1), np.cos(s1)
        radius = s0 / cosine
        d_radius = (size[0] + s0 * sine / cosine * size[1]) / cosine
        height = s0 / sine  # of the origin above the apex
        d_height = size[0] / sine - s0 * cosine / sine**2 * size[1]
        return (
            {
                "axis_point": origin,
                "axis_direction": z,
                "radius": radius,
                "half_angle_deg": np.degrees(s1),
                "apex": origin - height * z,
            },
            {
                "axis_point": place,
                "axis_direction": turn,
                "radius": d_radius[None],
                "half_angle_deg": np.degrees(size[1:]),
                "apex": place - height * turn - z[:, None] * d_height,
            },
        )


PRIMITIVES = {
    primitive.name: primitive
    for primitive in (
        Primitive("line", 0, ("cx", "cy", "tx", "ty"), dimensions=2, sample=2),
        Primitive("plane", 1, ("cz", "tx", "ty")),
        Primitive("circle", 2, ("cx", "cy", "cz", "tx", "ty", "s0"), dimensions=2),
        Primitive("sphere", 3, ("cx", "cy", "cz", "s0"), sample=4),
        Primitive("cylinder", 4, ("cx", "cy", "tx", "ty", "s0"), sample=2, needs_normals=True),
        Primitive("cone", 5, ("cx", "cy", "tx", "ty", "s0", "s1"), needs_normals=True),
        Primitive("torus", 6, ("cx", "cy", "cz", "tx", "ty", "s0", "s1"), sample=4, needs_normals=True),
        Primitive("ring", 7, ("cx", "cy", "s0")),
    )
}
