"""Where rays meet faces, exact to rounding (Numba). The face nearest along each ray wins; faces are seen from their outside only."""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["all_in_plane", "cast_rays", "disc_height", "in_plane", "lobes", "thread_excess", "visible_from"]

_ROOT3 = math.sqrt(3.0)
_POLISH = 12  # steps by the nominal surface's slope: each leaves a few per cent where a ray grazes


@numba.njit(cache=True)
def disc_height(row, x, y):
    scale = row[22]
    if scale == 0.0:
        return 0.0
    x /= scale
    y /= scale
    return (
        row[23] * (x * x - y * y)
        + row[24] * 2 * x * y
        + row[25] * (2 * (x * x + y * y) - 1)
        + row[26] * x * (x * x - 3 * y * y)
        + row[27] * y * (3 * x * x - y * y)
    )


@numba.njit(cache=True)
def lobes(row, x, y):
    """Radial form of a frustum: powers of exp(i angle) by multiplication."""
    r = math.sqrt(x * x + y * y)
    c, s = x / r, y / r
    a, b = c, s
    total = 0.0
    for n in range(4):
        a, b = a * c - b * s, a * s + b * c
        total += row[22 + 2 * n] * a + row[23 + 2 * n] * b
    return total


@numba.njit(cache=True)
def thread_excess(row, x, y, z):
    """Distance from the axis less the thread's radius there: positive outside."""
    pitch, starts = row[15], row[16]
    along = z - pitch * starts * (math.atan2(y, x) - row[17]) / (2 * math.pi)
    if row[23] > 0:
        along += row[22] * math.sin(2 * math.pi * z / row[23])
    along = abs((along + 0.5 * pitch) % pitch - 0.5 * pitch)
    cut = (along - pitch / 16) * _ROOT3
    return math.sqrt(x * x + y * y) - row[14] + min(max(cut, 0.0), row[20])


@numba.njit(cache=True)
def in_plane(row, cuts, x, y):
    if row[0] == 1:
        return abs(x) <= row[14] and abs(y) <= row[15]
    r2 = x * x + y * y
    if r2 < row[14] * row[14] or r2 > row[15] * row[15]:
        return False
    first = int(row[32])
    for i in range(first, first + int(row[33])):
        ax, ay = cuts[i, 2] - cuts[i, 0], cuts[i, 3] - cuts[i, 1]
        px, py = x - cuts[i, 0], y - cuts[i, 1]
        length2 = ax * ax + ay * ay
        s = min(max((px * ax + py * ay) / length2, 0.0), 1.0) if length2 > 0 else 0.0
        dx, dy = px - s * ax, py - s * ay
        if dx * dx + dy * dy < cuts[i, 4] * cuts[i, 4]:
            return False
    return True


@numba.njit(cache=True)
def all_in_plane(row, cuts, xy):
    """(n,) bool of points (n, 2)."""
    out = np.empty(len(xy), np.bool_)
    for i in range(len(xy)):
        out[i] = in_plane(row, cuts, xy[i, 0], xy[i, 1])
    return out


@numba.njit(cache=True)
def _plane(row, cuts, ox, oy, oz, dx, dy, dz, near):
    if dz * row[1] >= 0.0:
        return math.inf
    t = -oz / dz
    if row[22] != 0.0 and row[0] == 0:
        for _ in range(_POLISH):
            f = oz + t * dz - disc_height(row, ox + t * dx, oy + t * dy)
            t -= f / dz
            if abs(f) <= 1e-12 * row[15]:
                break
    if t > near and in_plane(row, cuts, ox + t * dx, oy + t * dy):
        return t
    return math.inf


@numba.njit(cache=True)
def _frustum(row, ox, oy, oz, dx, dy, dz, near):
    radius, slope, low, high, middle, half = row[14], row[15], row[16], row[17], row[18], row[19]
    q0, q1 = radius + slope * oz, slope * dz
    a = dx * dx + dy * dy - q1 * q1
    b = ox * dx + oy * dy - q0 * q1
    c = ox * ox + oy * oy - q0 * q0
    if a == 0.0:
        return math.inf
    root = b * b - a * c
    if root < 0.0:
        return math.inf
    root = math.sqrt(root)
    # stable roots, nearer first
    q = -b - root if b > 0 else -b + root
    t0, t1 = q / a, (c / q if q != 0.0 else math.inf)
    if t0 > t1:
        t0, t1 = t1, t0
    for i in range(2):
        t = t0 if i == 0 else t1
        x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        if not (t > near and low <= z <= high) or radius + slope * z <= 0:
            continue
        across = x * dx + y * dy - (radius + slope * z) * slope * dz
        if across * row[1] >= 0.0:
            continue
        if half < 3.14159:
            away = math.atan2(y, x) - middle
            away = abs((away + math.pi) % (2 * math.pi) - math.pi)
            if away > half:
                continue
        for _ in range(_POLISH):  # the form error moves the hit by micrometres
            r = math.sqrt(x * x + y * y)
            f = r - (radius + slope * z + lobes(row, x, y))
            if abs(f) <= 1e-12 * radius:
                break
            t -= f / ((x * dx + y * dy) / r - slope * dz)
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
        return t
    return math.inf


@numba.njit(cache=True)
def _thread(row, ox, oy, oz, dx, dy, dz, near):
    low, high, major = row[18], row[19], row[14]
    # the part of the ray inside the major cylinder, between the ends
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    c = ox * ox + oy * oy - major * major
    start, stop = -math.inf, math.inf
    if a > 0.0:
        root = b * b - a * c
        if root <= 0.0:
            return math.inf
        root = math.sqrt(root)
        start, stop = (-b - root) / a, (-b + root) / a
    elif c > 0.0:
        return math.inf
    if dz != 0.0:
        first, second = (low - oz) / dz, (high - oz) / dz
        start, stop = max(start, min(first, second)), min(stop, max(first, second))
    elif oz < low or oz > high:
        return math.inf
    enters = start > near
    start = max(start, near)
    if start >= stop:
        return math.inf
    t = start
    f = thread_excess(row, ox + t * dx, oy + t * dy, oz + t * dz)
    if f <= 1e-13 * major:  # on a ridge, or on a flat end; a ray that starts in there only leaves
        return t if enters else math.inf
    radial = row[15] * abs(row[16]) / (2 * math.pi * (major - row[20]))
    steepest = 1.0 + math.sqrt(1.0 + 3.0 * (1.0 + radial * radial) * 1.1)  # bound of |grad excess|
    before = t
    for _ in range(4096):
        before = t
        t += max(f / steepest, 1e-7 * major)
        if t >= stop:
            return math.inf
        f = thread_excess(row, ox + t * dx, oy + t * dy, oz + t * dz)
        if f <= 0.0:
            break
    else:
        return math.inf
    outside, inside = before, t
    for _ in range(60):
        t = 0.5 * (outside + inside)
        if t == outside or t == inside:
            break
        if thread_excess(row, ox + t * dx, oy + t * dy, oz + t * dz) > 0.0:
            outside = t
        else:
            inside = t
    return outside


@numba.njit(cache=True)
def _face(row, cuts, o, d, near):
    rx, ry, rz = o[0] - row[11], o[1] - row[12], o[2] - row[13]
    ox = row[2] * rx + row[5] * ry + row[8] * rz
    oy = row[3] * rx + row[6] * ry + row[9] * rz
    oz = row[4] * rx + row[7] * ry + row[10] * rz
    dx = row[2] * d[0] + row[5] * d[1] + row[8] * d[2]
    dy = row[3] * d[0] + row[6] * d[1] + row[9] * d[2]
    dz = row[4] * d[0] + row[7] * d[1] + row[10] * d[2]
    if row[0] <= 1:
        return _plane(row, cuts, ox, oy, oz, dx, dy, dz, near)
    if row[0] == 2:
        return _frustum(row, ox, oy, oz, dx, dy, dz, near)
    return _thread(row, ox, oy, oz, dx, dy, dz, near)


@numba.njit(cache=True)
def _nearest(rows, cuts, o, d, near, far, any_hit):
    """Distance along the unit ray and face index of the nearest hit between near and far; the first found if `any_hit`."""
    best, face = far, -1
    for i in range(len(rows)):
        cx, cy, cz = rows[i, 34] - o[0], rows[i, 35] - o[1], rows[i, 36] - o[2]
        along = cx * d[0] + cy * d[1] + cz * d[2]
        reach = rows[i, 37]
        if (
            cx * cx + cy * cy + cz * cz - along * along > reach * reach
            or along + reach < near
            or along - reach > best
        ):
            continue
        t = _face(rows[i], cuts, o, d, near)
        if t < best:
            best, face = t, i
            if any_hit:
                return best, face
    return best, face


@numba.njit(cache=True)
def _normal(row, p, out):
    """Unit outward normal in the part's frame, of the nominal surface."""
    rx, ry, rz = p[0] - row[11], p[1] - row[12], p[2] - row[13]
    x = row[2] * rx + row[5] * ry + row[8] * rz
    y = row[3] * rx + row[6] * ry + row[9] * rz
    z = row[4] * rx + row[7] * ry + row[10] * rz
    nx, ny, nz = 0.0, 0.0, row[1]
    if row[0] == 2:
        r = math.sqrt(x * x + y * y)
        nx, ny, nz = row[1] * x / r, row[1] * y / r, -row[1] * row[15]
    elif row[0] == 3:
        if z <= row[18] + 1e-9 or z >= row[19] - 1e-9:
            nz = 1.0 if z > 0.5 * (row[18] + row[19]) else -1.0
        else:
            e = 1e-5 * row[14]
            nx = thread_excess(row, x + e, y, z) - thread_excess(row, x - e, y, z)
            ny = thread_excess(row, x, y + e, z) - thread_excess(row, x, y - e, z)
            nz = thread_excess(row, x, y, z + e) - thread_excess(row, x, y, z - e)
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    out[0] = (row[2] * nx + row[3] * ny + row[4] * nz) / length
    out[1] = (row[5] * nx + row[6] * ny + row[7] * nz) / length
    out[2] = (row[8] * nx + row[9] * ny + row[10] * nz) / length


@numba.njit(cache=True)
def _cast_block(rows, cuts, origins, directions, begin, end, distance, face, normal):
    for i in range(begin, end):
        t, f = _nearest(rows, cuts, origins[i], directions[i], 0.0, math.inf, False)
        distance[i] = t
        face[i] = f
        if f >= 0:
            _normal(rows[f], origins[i] + t * directions[i], normal[i])


@numba.njit(cache=True, parallel=True)
def _cast_all(rows, cuts, origins, directions, distance, face, normal):
    blocks = (len(origins) + 1023) // 1024
    for block in numba.prange(blocks):
        _cast_block(
            rows,
            cuts,
            origins,
            directions,
            block * 1024,
            min((block + 1) * 1024, len(origins)),
            distance,
            face,
            normal,
        )


def cast_rays(
    table,  # FaceTable
    origins: np.ndarray,  # (n, 3) or (3,)
    directions: np.ndarray,  # (n, 3) unit
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (n,), inf where nothing is hit; face indices (n,), -1 there; unit normals (n, 3), zero there."""
    directions = np.ascontiguousarray(directions, np.float64)
    origins = np.ascontiguousarray(np.broadcast_to(origins, directions.shape), np.float64)
    n = len(directions)
    distance, face, normal = np.empty(n), np.empty(n, np.int32), np.zeros((n, 3))
    _cast_all(table.rows, table.cuts, origins, directions, distance, face, normal)
    return distance, face, normal


@numba.njit(cache=True)
def _visible_block(rows, cuts, points, normals, eye, begin, end, out):
    d = np.empty(3)
    for i in range(begin, end):
        d[:] = eye - points[i]
        length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
        d /= length
        out[i] = d[0] * normals[i, 0] + d[1] * normals[i, 1] + d[2] * normals[i, 2]
        if out[i] <= 0.0:
            out[i] = 0.0
            continue
        _, face = _nearest_towards(rows, cuts, eye, d, length)
        if face >= 0:
            out[i] = 0.0


@numba.njit(cache=True)
def _nearest_towards(rows, cuts, eye, d, length):
    """What stands between: seen from the eye, so that faces are met from outside; the last micrometre is the point's own face."""
    return _nearest(rows, cuts, eye, -d, 0.0, length * (1.0 - 1e-7) - 1e-4, True)


@numba.njit(cache=True, parallel=True)
def _visible_all(rows, cuts, points, normals, eye, out):
    blocks = (len(points) + 1023) // 1024
    for block in numba.prange(blocks):
        _visible_block(
            rows, cuts, points, normals, eye, block * 1024, min((block + 1) * 1024, len(points)), out
        )


def visible_from(
    table,  # FaceTable
    points: np.ndarray,  # (n, 3) on the faces
    normals: np.ndarray,  # (n, 3)
    eye: np.ndarray,  # (3,)
) -> np.ndarray:
    """(n,) cosine between normal and the line to the eye; 0 where something is in between or the face is turned away."""
    out = np.empty(len(points))
    _visible_all(
        table.rows,
        table.cuts,
        np.ascontiguousarray(points),
        np.ascontiguousarray(normals),
        np.asarray(eye, np.float64),
        out,
    )
    return out
