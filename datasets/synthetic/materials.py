"""What the bodies of a synthetic scene look like: solid textures and one lighting for all.

Colours are a function of position, normal and viewing direction only. The textures' edges are softened over
a fixed length, and the noise has few octaves, so that a picture of a few hundred pixels shows no aliasing
and each point of a surface has the same colour in every view but for the highlight. Patterns live in their
body's axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from fieldstone.core.errors import UserError

from .shapes import body_axes, body_count, body_distance, box_interval, scene_distance

__all__ = ["PATTERNS", "Material", "light_at", "linear_to_srgb", "material_tables", "shade", "srgb_to_linear"]

PATTERNS = ("plain", "checker", "stripes", "helix", "sectors", "marble", "chips", "gradient")
"""Names of the solid textures; a material's `scale` is the pattern's period in the scene's unit
(for "sectors" the number of sectors)."""
PLAIN, CHECKER, STRIPES, HELIX, SECTORS, MARBLE, CHIPS, GRADIENT = range(len(PATTERNS))
_COLOURS = 4

# One sun, a blue sky above and a warm bounce from below, all in linear light; the scene's own axes.
_SUN = (0.4411, -0.5147, 0.7352)
_SUN_COLOUR = (0.86, 0.80, 0.70)
_SKY_COLOUR = (0.36, 0.41, 0.48)
_BOUNCE_COLOUR = (0.34, 0.30, 0.27)
_SHADOW_SHARPNESS = 9.0
_PENUMBRA_REACH = 2.0 / _SHADOW_SHARPNESS


@dataclass(frozen=True)
class Material:
    """A solid texture and a highlight."""

    pattern: str
    colours: tuple[str, ...]
    """One to four sRGB colours as "#rrggbb"."""
    scale: float = 1.0
    softness: float = 0.008
    """Half width of the pattern's edges, in the scene's unit."""
    gloss: float = 0.1
    """Strength of the highlight, 0 for none."""


# Materials are one array (b, 16), a row for each body: four linear colours (the last given one is repeated),
# pattern as an index into PATTERNS, scale, softness, gloss.
_PATTERN, _SCALE, _SOFTNESS, _GLOSS = 12, 13, 14, 15


def material_tables(materials: list[Material]) -> np.ndarray:
    """The materials laid out for the kernels, (b, 16). `UserError` for an unknown pattern or colour."""
    rows = np.zeros((len(materials), 16))
    for row, material in zip(rows, materials):
        if material.pattern not in PATTERNS:
            raise UserError(f"unknown pattern {material.pattern!r}; there are {', '.join(PATTERNS)}")
        if not 1 <= len(material.colours) <= _COLOURS:
            raise UserError(f"a material has one to {_COLOURS} colours, got {len(material.colours)}")
        colours = [srgb_to_linear(_hexadecimal(colour)) for colour in material.colours]
        colours += [colours[-1]] * (_COLOURS - len(colours))
        row[:_PATTERN] = np.concatenate(colours)
        row[_PATTERN:] = PATTERNS.index(material.pattern), material.scale, material.softness, material.gloss
    return rows


def _hexadecimal(colour: str) -> np.ndarray:
    try:
        if len(colour) != 7 or colour[0] != "#":
            raise ValueError
        return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255.0
    except ValueError:
        raise UserError(f'a colour is written "#rrggbb", got {colour!r}') from None


def srgb_to_linear(colour: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light, any shape (IEC 61966-2-1)."""
    colour = np.asarray(colour, np.float64)
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colour: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB, any shape (IEC 61966-2-1); values outside are clipped."""
    colour = np.clip(np.asarray(colour, np.float64), 0.0, 1.0)
    return np.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour ** (1 / 2.4) - 0.055)


@njit(cache=True, error_model="numpy")
def _hash(i: int, j: int, k: int, salt: int) -> float:
    """A number in [0, 1) that looks random, from a lattice point."""
    h = (np.uint32(i) * np.uint32(0x8DA6B343)) ^ (np.uint32(j) * np.uint32(0xD8163841))
    h = np.uint32(h ^ (np.uint32(k) * np.uint32(0xCB1AB31F)) ^ (np.uint32(salt) * np.uint32(0x9E3779B9)))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return float(h) / 4294967296.0


@njit(cache=True, error_model="numpy")
def _noise(x: float, y: float, z: float) -> float:
    """Smooth value noise in [-1, 1] with features of size one."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = (
        u * u * u * (u * (u * 6 - 15) + 10),
        v * v * v * (v * (v * 6 - 15) + 10),
        w * w * w * (w * (w * 6 - 15) + 10),
    )
    total = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total += weight * _hash(int(i) + a, int(j) + b, int(k) + c, 1)
    return 2.0 * total - 1.0


@njit(cache=True, error_model="numpy")
def _step(x: float, half_width: float) -> float:
    """Smooth step from 0 to 1 centred at 0."""
    t = min(max(0.5 + 0.5 * x / half_width, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, error_model="numpy")
def _square_wave(phase: float, softness: float) -> float:
    """0 or 1 by turns over half periods, with soft edges; phase and softness in periods."""
    return _step(math.sin(2.0 * math.pi * phase), min(max(2.0 * math.pi * softness, 1e-6), 1.0))


@njit(cache=True, error_model="numpy")
def _chips(m: np.ndarray, body: int, x: float, y: float, z: float) -> tuple[float, int]:
    """Terrazzo: how far inside a stone chip the point is (0 to 1), and which colour the chip has.

    Chips are jittered balls, at most one to a cell, squashed at random; a point asks the 27 cells round it.
    """
    scale = m[body, _SCALE]
    x, y, z = x / scale, y / scale, z / scale
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    best, colour = 0.0, 1
    for a in range(i - 1, i + 2):
        for b in range(j - 1, j + 2):
            for c in range(k - 1, k + 2):
                size = 0.15 + 0.45 * _hash(a, b, c, 5)
                u = (x - a - _hash(a, b, c, 2)) * (0.7 + 0.6 * _hash(a, b, c, 6))
                v = (y - b - _hash(a, b, c, 3)) * (0.7 + 0.6 * _hash(a, b, c, 7))
                w = z - c - _hash(a, b, c, 4)
                cover = _step(size - math.sqrt(u * u + v * v + w * w), m[body, _SOFTNESS] / scale)
                if cover > best:
                    best, colour = cover, 1 + int(3 * _hash(a, b, c, 8))
    return best, colour


@njit(cache=True, error_model="numpy")
def _albedo(
    t: np.ndarray, m: np.ndarray, body: int, px: float, py: float, pz: float, albedo: np.ndarray
) -> None:
    """Writes the linear albedo (3,) of a point of a body."""
    x, y, z = body_axes(t, body, px, py, pz)
    pattern, scale, soft = m[body, _PATTERN], m[body, _SCALE], m[body, _SOFTNESS]
    share, other = 0.0, 1
    if pattern == CHECKER:
        share = 1.0
        for u in (x, y, z):
            share *= 2.0 * _square_wave(0.5 * u / scale, 0.5 * soft / scale) - 1.0
        share = 0.5 + 0.5 * share
    elif pattern == STRIPES:
        share = _square_wave(z / scale, soft / scale)
    elif pattern == HELIX:
        share = _square_wave(z / scale + math.atan2(y, x) / (2.0 * math.pi), soft / scale)
    elif pattern == SECTORS:
        around = max(2.0 * math.pi * math.sqrt(x * x + y * y), 1e-9)
        share = _square_wave(scale * math.atan2(y, x) / (2.0 * math.pi), soft * scale / around)
    elif pattern == MARBLE:
        warp = _noise(x / scale, y / scale, z / scale) + 0.5 * _noise(
            2 * x / scale + 7, 2 * y / scale, 2 * z / scale
        )
        vein = abs(math.sin(math.pi * ((x + 0.6 * z) / scale * 0.7 + 0.9 * warp)))
        share = 1.0 - _step(vein - 0.35, 0.4)
    elif pattern == CHIPS:
        share, other = _chips(m, body, x, y, z)
    elif pattern == GRADIENT:
        speckle = _noise(x / scale * 6, y / scale * 6, z / scale * 6)
        share = min(max(0.5 + z / scale + 0.22 * speckle, 0.0), 1.0)
    for channel in range(3):
        first = m[body, channel]
        albedo[channel] = first + share * (m[body, 3 * other + channel] - first)


@njit(cache=True, error_model="numpy")
def _sunlight(t: np.ndarray, x: float, y: float, z: float) -> float:
    """How much of the sun a point sees, 0 to 1, with a penumbra (Quilez, "soft shadows in raymarched SDFs").

    The least light any single body leaves: each is marched by itself, within its box widened by the penumbra.
    """
    light = 1.0
    for body in range(body_count(t)):
        along, leave = box_interval(t, body, x, y, z, _SUN[0], _SUN[1], _SUN[2], _PENUMBRA_REACH)
        along = max(along, 0.012)
        before = 1e9
        while along < leave:
            distance = body_distance(t, body, x + _SUN[0] * along, y + _SUN[1] * along, z + _SUN[2] * along)
            if distance < 1e-4:
                return 0.0
            # The closest approach lies between two steps; the two balls tell where.
            back = distance * distance / (2.0 * before)
            aside = math.sqrt(max(distance * distance - back * back, 0.0))
            light = min(light, _SHADOW_SHARPNESS * aside / max(along - back, 1e-6))
            before = distance
            along += max(distance, 0.004)
    return light * light * (3.0 - 2.0 * light)


@njit(cache=True, error_model="numpy")
def _openness(t: np.ndarray, x: float, y: float, z: float, nx: float, ny: float, nz: float) -> float:
    """Ambient light that reaches a point, 0 to 1, from five distances along its normal (Evans 2006)."""
    hidden, weight = 0.0, 1.0
    for step in range(5):
        along = 0.012 + 0.045 * step
        distance, _body = scene_distance(t, x + nx * along, y + ny * along, z + nz * along)
        hidden += weight * max(along - distance, 0.0)
        weight *= 0.75
    return max(1.0 - 2.2 * hidden, 0.15)


@njit(cache=True, error_model="numpy")
def light_at(
    t: np.ndarray, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> tuple[float, float]:
    """How much of the sun and of the ambient light reach a surface point with unit normal n, each 0 to 1."""
    sun = 0.0
    if nx * _SUN[0] + ny * _SUN[1] + nz * _SUN[2] > 0.0:
        sun = _sunlight(t, x + 0.003 * nx, y + 0.003 * ny, z + 0.003 * nz)
    return sun, _openness(t, x, y, z, nx, ny, nz)


@njit(cache=True, error_model="numpy")
def shade(
    t: np.ndarray,
    m: np.ndarray,
    body: int,
    point: np.ndarray,  # (3,) scene axes, on the surface
    normal: np.ndarray,  # (3,) unit, outwards
    direction: np.ndarray,  # (3,) unit, looking along
    sun: float,
    openness: float,
    colour: np.ndarray,  # (3,) out: linear light
) -> None:
    """Lambert's law under sun, sky and bounce, and a Blinn-Phong highlight; `sun`, `openness` from
    `light_at`.
    """
    nx, ny, nz = normal[0], normal[1], normal[2]
    _albedo(t, m, body, point[0], point[1], point[2], colour)
    facing = max(nx * _SUN[0] + ny * _SUN[1] + nz * _SUN[2], 0.0)
    hx, hy, hz = _SUN[0] - direction[0], _SUN[1] - direction[1], _SUN[2] - direction[2]
    half = (nx * hx + ny * hy + nz * hz) / max(math.sqrt(hx * hx + hy * hy + hz * hz), 1e-9)
    highlight = m[body, _GLOSS] * sun * max(half, 0.0) ** 40.0
    up = 0.5 + 0.5 * nz
    for channel in range(3):
        ambient = openness * (up * _SKY_COLOUR[channel] + (1.0 - up) * _BOUNCE_COLOUR[channel])
        lit = facing * sun * _SUN_COLOUR[channel]
        colour[channel] = colour[channel] * (ambient + lit) + highlight * _SUN_COLOUR[channel]
