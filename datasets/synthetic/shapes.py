"""Implicit shapes: signed distance functions, how they combine into bodies, and bodies into a scene.

A distance is negative inside. Every function here has Lipschitz constant 1, so its value never exceeds the
true distance and sphere tracing (Hart 1996) cannot step through a surface. The single shapes are exact; a
smooth union is a lower bound near its blend. The formulas are the well-known ones of Quilez ("distance
functions" and "smooth minimum", iquilezles.org), derived again for z up.

Scenes are plain tables of numbers, so one compiled kernel serves every scene.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from fieldstone.core.errors import UserError

__all__ = [
    "Body",
    "Shape",
    "body_distance",
    "body_axes",
    "body_count",
    "bowl",
    "box_interval",
    "capsule",
    "round_box",
    "round_cone",
    "round_cylinder",
    "scene_distance",
    "shape_tables",
    "sphere",
    "torus",
]

SPHERE, ROUND_BOX, TORUS, CAPSULE, ROUND_CYLINDER, ROUND_CONE, BOWL = range(7)
_FAR = 1e9


@dataclass(frozen=True)
class Shape:
    """One primitive, placed in its body. Lengths in the scene's own unit."""

    kind: int
    parameters: tuple[float, ...]
    box: tuple[float, ...]
    """Lower, then upper corner of the box that holds it, in its own axes."""
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation vector (axis times angle, radians) from the shape's axes to the body's."""
    blend: float = 0.0
    """Reach of the smooth union with the shapes before it in the body; 0 is a sharp union."""


@dataclass(frozen=True)
class Body:
    """The union of its shapes, with one material."""

    shapes: tuple[Shape, ...]
    material: object
    """A `materials.Material`."""
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))
    """Rotation vector (axis times angle, radians) from the body's axes to the scene's."""


def sphere(radius: float, **place) -> Shape:
    return Shape(SPHERE, (radius,), _box(radius, radius, radius), **place)


def round_box(half: tuple[float, float, float], rounding: float, **place) -> Shape:
    """A box of outer half sizes `half` with edges rounded to radius `rounding`."""
    if not 0 <= rounding <= min(half):
        raise UserError(
            f"round_box: rounding {rounding} must lie between 0 and the least half size {min(half)}"
        )
    return Shape(ROUND_BOX, (*half, rounding), _box(*half), **place)


def torus(ring: float, tube: float, **place) -> Shape:
    """A ring of radius `ring` round the z axis, of thickness radius `tube`."""
    return Shape(TORUS, (ring, tube), _box(ring + tube, ring + tube, tube), **place)


def capsule(half_length: float, radius: float, **place) -> Shape:
    """A rod along z with round ends: the axis runs from -half_length to half_length."""
    return Shape(CAPSULE, (half_length, radius), _box(radius, radius, half_length + radius), **place)


def round_cylinder(radius: float, half_height: float, rounding: float, **place) -> Shape:
    """An upright cylinder of the given outer sizes with its two edges rounded."""
    if not 0 <= rounding <= min(radius, half_height):
        raise UserError(
            f"round_cylinder: rounding {rounding} must lie between 0 and {min(radius, half_height)}"
        )
    return Shape(ROUND_CYLINDER, (radius, half_height, rounding), _box(radius, radius, half_height), **place)


def round_cone(lower: float, upper: float, height: float, **place) -> Shape:
    """The hull of a ball of radius `lower` at z = 0 and one of radius `upper` at z = `height`."""
    if abs(lower - upper) >= height:
        raise UserError(
            f"round_cone: height {height} must exceed the difference of the radii {lower}, {upper}"
        )
    wide = max(lower, upper)
    box = (-wide, -wide, min(-lower, height - upper), wide, wide, max(lower, height + upper))
    return Shape(ROUND_CONE, (lower, upper, height), box, **place)


def bowl(radius: float, rim_height: float, thickness: float, **place) -> Shape:
    """A spherical shell (middle radius, half `thickness` to each side) without the part above z =
    `rim_height`.
    """
    if abs(rim_height) >= radius:
        raise UserError(f"bowl: rim height {rim_height} must be less than the radius {radius}")
    wide = radius + thickness / 2
    box = (-wide, -wide, -wide, wide, wide, rim_height + thickness / 2)
    return Shape(BOWL, (radius, rim_height, thickness / 2), box, **place)


def _box(x: float, y: float, z: float) -> tuple[float, ...]:
    return (-x, -y, -z, x, y, z)


# A scene is one array (b + s, 20): a row for each body, then one for each shape. One array and no more,
# because a kernel hands it on with every call, and each further argument slows the innermost loops. A body's
# columns: centre, rotation from scene to body, lower and upper corner of its box in scene axes, row of its
# first shape, one past its last. The first body's first shape is row b, which tells the number of bodies.
_AXES, _LOWER, _UPPER, _FIRST, _LAST, _COLUMNS = 3, 12, 15, 18, 19, 20
# A shape's columns: centre in body axes, rotation from body to shape, kind, four parameters, blend.
_KIND, _PARAMETERS, _BLEND = 12, 13, 17


def shape_tables(bodies: tuple[Body, ...]) -> np.ndarray:
    """The bodies laid out for the kernels, (rows, 20) float64. Raises `UserError` for a scene without bodies
    or a body without shapes.
    """
    if not bodies or any(not body.shapes for body in bodies):
        raise UserError("a synthetic scene needs at least one body, and each body at least one shape")
    rows = np.zeros((len(bodies) + sum(len(body.shapes) for body in bodies), _COLUMNS))
    next_shape = len(bodies)
    for row, body in zip(rows, bodies):
        rotation = _rotation_matrix(body.rotation)
        row[:_AXES], row[_AXES:_LOWER] = body.centre, rotation.T.ravel()
        row[_FIRST], row[_LAST] = next_shape, next_shape + len(body.shapes)
        boxes = []
        for shape in body.shapes:
            turn = _rotation_matrix(shape.rotation)
            parameters = (*shape.parameters, 0.0, 0.0, 0.0)[:4]
            rows[next_shape, : _BLEND + 1] = (
                *shape.centre,
                *turn.T.ravel(),
                shape.kind,
                *parameters,
                shape.blend,
            )
            next_shape += 1
            middle, half = _turned_box(rotation @ turn, shape)
            middle = rotation @ (np.array(shape.centre) + turn @ middle) + body.centre
            boxes.append((middle - half, middle + half))
        # A smooth union lies up to a quarter of its reach outside its parts.
        slack = sum(shape.blend for shape in body.shapes) / 4
        row[_LOWER:_UPPER] = np.min([lower for lower, _ in boxes], axis=0) - slack
        row[_UPPER:_FIRST] = np.max([upper for _, upper in boxes], axis=0) + slack
    return rows


def _turned_box(rotation: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Middle (3,), in the shape's axes, and half size (3,), in the turned axes, of the box that holds the
    shape.
    """
    lower, upper = np.array(shape.box[:3]), np.array(shape.box[3:])
    return (lower + upper) / 2, np.abs(rotation) @ ((upper - lower) / 2)


def _rotation_matrix(vector: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) of a rotation vector (Rodrigues' formula)."""
    angle = math.sqrt(sum(component**2 for component in vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = (component / angle for component in vector)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


@njit(cache=True, error_model="numpy", inline="always")
def _shape_distance(
    kind: float, p0: float, p1: float, p2: float, p3: float, x: float, y: float, z: float
) -> float:
    """Exact signed distance to one primitive from a point in its own axes."""
    if kind == SPHERE:
        return math.sqrt(x * x + y * y + z * z) - p0
    if kind == ROUND_BOX:
        a, b, c = abs(x) - p0 + p3, abs(y) - p1 + p3, abs(z) - p2 + p3
        inside = min(max(a, b, c), 0.0)
        a, b, c = max(a, 0.0), max(b, 0.0), max(c, 0.0)
        return math.sqrt(a * a + b * b + c * c) + inside - p3
    if kind == CAPSULE:
        z -= min(max(z, -p0), p0)
        return math.sqrt(x * x + y * y + z * z) - p1
    across = math.sqrt(x * x + y * y)
    if kind == TORUS:
        ring = across - p0
        return math.sqrt(ring * ring + z * z) - p1
    if kind == ROUND_CYLINDER:
        a, b = across - p0 + p2, abs(z) - p1 + p2
        inside = min(max(a, b), 0.0)
        a, b = max(a, 0.0), max(b, 0.0)
        return math.sqrt(a * a + b * b) + inside - p2
    if kind == ROUND_CONE:
        slope = (p0 - p1) / p2
        side = math.sqrt(1.0 - slope * slope)
        along = side * z - slope * across
        if along < 0.0:
            return math.sqrt(across * across + z * z) - p0
        if along > side * p2:
            z -= p2
            return math.sqrt(across * across + z * z) - p1
        return side * across + slope * z - p0
    # BOWL: the nearest point is on the rim's circle or on the shell
    width = math.sqrt(p0 * p0 - p1 * p1)
    if p1 * across < width * z:
        a, b = across - width, z - p1
        return math.sqrt(a * a + b * b) - p2
    return abs(math.sqrt(across * across + z * z) - p0) - p2


@njit(cache=True, error_model="numpy")
def body_count(t: np.ndarray) -> int:
    """The number of bodies of a scene."""
    return int(t[0, _FIRST])


@njit(cache=True, error_model="numpy")
def body_axes(t: np.ndarray, body: int, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A point in scene axes, seen in a body's own."""
    x, y, z = x - t[body, 0], y - t[body, 1], z - t[body, 2]
    return (
        t[body, 3] * x + t[body, 4] * y + t[body, 5] * z,
        t[body, 6] * x + t[body, 7] * y + t[body, 8] * z,
        t[body, 9] * x + t[body, 10] * y + t[body, 11] * z,
    )


@njit(cache=True, error_model="numpy")
def body_distance(t: np.ndarray, body: int, x: float, y: float, z: float) -> float:
    """Signed distance to one body from a point in scene axes: its shapes, joined by (smooth) union."""
    u, v, w = body_axes(t, body, x, y, z)
    result = _FAR
    for s in range(int(t[body, _FIRST]), int(t[body, _LAST])):
        a, b, c = u - t[s, 0], v - t[s, 1], w - t[s, 2]
        distance = _shape_distance(
            t[s, _KIND],
            t[s, _PARAMETERS],
            t[s, _PARAMETERS + 1],
            t[s, _PARAMETERS + 2],
            t[s, _PARAMETERS + 3],
            t[s, 3] * a + t[s, 4] * b + t[s, 5] * c,
            t[s, 6] * a + t[s, 7] * b + t[s, 8] * c,
            t[s, 9] * a + t[s, 10] * b + t[s, 11] * c,
        )
        reach = t[s, _BLEND]
        overlap = max(reach - abs(distance - result), 0.0)
        result = min(result, distance)
        if overlap > 0.0:
            result -= overlap * overlap / (4.0 * reach)
    return result


@njit(cache=True, error_model="numpy")
def scene_distance(t: np.ndarray, x: float, y: float, z: float) -> tuple[float, int]:
    """Signed distance to the union of all bodies, and the body it belongs to.

    A body whose box is farther than the best so far is skipped: its distance is at least that to the box.
    """
    best, nearest = _FAR, 0
    for body in range(body_count(t)):
        a = max(t[body, _LOWER] - x, x - t[body, _UPPER], 0.0)
        b = max(t[body, _LOWER + 1] - y, y - t[body, _UPPER + 1], 0.0)
        c = max(t[body, _LOWER + 2] - z, z - t[body, _UPPER + 2], 0.0)
        outside = a * a + b * b + c * c
        if outside == 0.0 or (best > 0.0 and outside < best * best):
            distance = body_distance(t, body, x, y, z)
            if distance < best:
                best, nearest = distance, body
    return best, nearest


@njit(cache=True, error_model="numpy")
def box_interval(
    t: np.ndarray,
    body: int,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    margin: float,
) -> tuple[float, float]:
    """Where a ray is within a body's box widened by `margin`: entry (at least 0) and exit; exit < entry:
    never.
    """
    enter, leave = 0.0, np.inf
    for axis, o, d in ((0, ox, dx), (1, oy, dy), (2, oz, dz)):
        inverse = 1.0 / d if d != 0.0 else 1e300
        near, far = (
            (t[body, _LOWER + axis] - margin - o) * inverse,
            (t[body, _UPPER + axis] + margin - o) * inverse,
        )
        enter, leave = max(enter, min(near, far)), min(leave, max(near, far))
    return enter, leave
