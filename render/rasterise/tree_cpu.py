"""Rays of any origin against a mesh on the CPU: a tree of boxes, built anew for each call.

Faces are sorted along a Morton curve; eight neighbours make a node, eight nodes the node above them, so the tree needs no pointers
and is built in two parallel sweeps and a sort (Lauterbach et al. 2009 sort alike; the arity and the implicit shape are ours). The boxes of
a node lie coordinate by coordinate, so that all eight are tested in vector instructions. Boxes are float32, rounded outwards;
rays, box tests and faces are float64, the face test that of `fragments_reference`.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

__all__ = ["trace_rays"]

WIDE = 8
BITS = 10
"""Bits of each coordinate in a Morton code: with 31 bits for the face, code and face fit one sortable int64."""
SLACK = 1.0 + 1e-12
"""A box is left this much later than computed: more than the test rounds."""
RAYS = 64
"""Neighbouring rays that one worker takes at a time."""


@njit(cache=True)
def _spread_bits(value):
    """abc -> a00b00c: room for two other coordinates between the bits."""
    spread = np.int64(0)
    for bit in range(BITS):
        spread |= ((value >> bit) & 1) << (3 * bit)
    return spread


@njit(cache=True)
def _keys_of(vertices, faces, low, scale, spread, first, last, keys):
    for f in range(first, last):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        code = np.int64(0)
        for axis in range(3):
            middle = (np.float64(vertices[i, axis]) + vertices[j, axis] + vertices[k, axis]) / 3
            cell = min(max(int((middle - low[axis]) * scale[axis]), 0), len(spread) - 1)
            code |= spread[cell] << axis
        keys[f] = (code << 31) | f


@njit(parallel=True, cache=True)
def _keys(vertices, faces, low, scale, spread, keys, workers):
    for w in prange(workers):
        _keys_of(
            vertices,
            faces,
            low,
            scale,
            spread,
            len(faces) * w // workers,
            len(faces) * (w + 1) // workers,
            keys,
        )


@njit(cache=True)
def _spread_table():
    table = np.empty(1 << BITS, np.int64)
    for value in range(len(table)):
        table[value] = _spread_bits(value)
    return table


@njit(cache=True)
def _outwards(low, high):
    """float32 bounds that hold the float64 interval."""
    down, up = np.float32(low), np.float32(high)
    if np.float64(down) > low:
        down = np.nextafter(down, np.float32(-np.inf))
    if np.float64(up) < high:
        up = np.nextafter(up, np.float32(np.inf))
    return down, up


@njit(cache=True)
def _face_boxes_of(vertices, faces, keys, first, last, boxes, order):
    """Nodes [first, last) of the lowest level: the boxes of their faces."""
    for node in range(first, last):
        for lane in range(WIDE):
            at = node * WIDE + lane
            if at >= len(keys):
                order[at] = -1
                for axis in range(3):
                    boxes[node, axis, lane], boxes[node, 3 + axis, lane] = np.inf, np.inf
                continue
            f = keys[at] & 0x7FFFFFFF
            order[at] = f
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            for axis in range(3):
                p, q, r = vertices[i, axis], vertices[j, axis], vertices[k, axis]
                down, up = _outwards(np.float64(min(p, q, r)), np.float64(max(p, q, r)))
                boxes[node, axis, lane], boxes[node, 3 + axis, lane] = down, up


@njit(parallel=True, cache=True)
def _face_boxes(vertices, faces, keys, count, boxes, order, workers):
    for w in prange(workers):
        _face_boxes_of(vertices, faces, keys, count * w // workers, count * (w + 1) // workers, boxes, order)


@njit(cache=True)
def _upper_boxes(boxes, starts):
    """All levels above the lowest, each from the one below it."""
    for level in range(1, len(starts) - 1):
        below, count = starts[level - 1], starts[level] - starts[level - 1]
        for node in range(starts[level], starts[level + 1]):
            for lane in range(WIDE):
                child = (node - starts[level]) * WIDE + lane
                for axis in range(3):
                    low, high = np.float32(np.inf), np.float32(np.inf)
                    if child < count:
                        low, high = boxes[below + child, axis, 0], boxes[below + child, 3 + axis, 0]
                        for each in range(1, WIDE):
                            if boxes[below + child, axis, each] < np.inf:
                                low = min(low, boxes[below + child, axis, each])
                                high = max(high, boxes[below + child, 3 + axis, each])
                    boxes[node, axis, lane], boxes[node, 3 + axis, lane] = low, high


@njit(cache=True)
def _enter(box, ox, oy, oz, ix, iy, iz, limit, times):
    """Where the ray enters each of a node's boxes; infinite where it misses or comes too late, and for a box that is not there,
    whose sides all lie at infinity."""
    for lane in range(WIDE):
        x0, x1 = (box[0, lane] - ox) * ix, (box[3, lane] - ox) * ix
        y0, y1 = (box[1, lane] - oy) * iy, (box[4, lane] - oy) * iy
        z0, z1 = (box[2, lane] - oz) * iz, (box[5, lane] - oz) * iz
        enter = max(max(min(x0, x1), min(y0, y1)), max(min(z0, z1), 0.0))
        leave = min(min(max(x0, x1), max(y0, y1)), min(max(z0, z1), limit)) * SLACK
        times[lane] = enter if enter <= leave else np.inf


@njit(cache=True)
def _reciprocal(value):
    """Finite, so that a ray in the plane of a box's side meets 0 and not 0 * infinity."""
    if abs(value) < 1e-200:
        return -1e200 if value < 0 else 1e200
    return 1 / value


@njit(cache=True)
def _lost_tie(area, x1, y1, x2, y2, total):
    """Whether a ray exactly through the edge from (x1, y1) to (x2, y2) belongs to the face on the other side of it."""
    if area != 0:
        return False
    rise = y1 - y2
    return (rise if rise != 0 else x2 - x1) * total <= 0


@njit(cache=True)
def _meet(vertices, faces, f, origin, kx, ky, kz, sx, sy, along, out):
    """The areas u, v, w opposite each corner, and the distance: into `out`. False without a hit."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    az, bz, cz = vertices[i, kz] - origin[kz], vertices[j, kz] - origin[kz], vertices[k, kz] - origin[kz]
    ax, ay = vertices[i, kx] - origin[kx] - sx * az, vertices[i, ky] - origin[ky] - sy * az
    bx, by = vertices[j, kx] - origin[kx] - sx * bz, vertices[j, ky] - origin[ky] - sy * bz
    cx, cy = vertices[k, kx] - origin[kx] - sx * cz, vertices[k, ky] - origin[ky] - sy * cz
    u, v, w = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
    if not ((u >= 0 and v >= 0 and w >= 0) or (u <= 0 and v <= 0 and w <= 0)):
        return False
    total = u + v + w
    if (
        total == 0
        or _lost_tie(u, bx, by, cx, cy, total)
        or _lost_tie(v, cx, cy, ax, ay, total)
        or _lost_tie(w, ax, ay, bx, by, total)
    ):
        return False
    out[0], out[1], out[2] = u / total, v / total, w / total
    out[3] = (out[0] * az + out[1] * bz + out[2] * cz) / along
    out[4] = total if along > 0 else -total
    return True


@njit(cache=True)
def _trace(
    vertices, faces, order, boxes, starts, origin, direction, layers, near, far, back_faces, stack, since, times, out,
    distance, face, barycentric,
):  # fmt: skip
    """One ray: its nearest layers, into distance (filled with infinity), face and barycentric."""
    kz = 0
    for axis in range(1, 3):
        if abs(direction[axis]) > abs(direction[kz]):
            kz = axis
    kx, ky = (kz + 1) % 3, (kz + 2) % 3
    along = direction[kz]
    if not abs(along) > 0:  # also NaN: the lens sees nothing here
        return
    sx, sy = direction[kx] / along, direction[ky] / along
    ix, iy, iz = _reciprocal(direction[0]), _reciprocal(direction[1]), _reciprocal(direction[2])
    last = layers - 1
    top = 1
    stack[0], since[0] = starts[-2], 0.0  # the root
    while top > 0:
        top -= 1
        limit = min(distance[last], far)
        if since[top] > limit * SLACK:
            continue
        node = stack[top]
        _enter(boxes[node], origin[0], origin[1], origin[2], ix, iy, iz, limit, times)
        if node >= starts[1]:
            level = 1
            while node >= starts[level + 1]:
                level += 1
            children = starts[level - 1] + (node - starts[level]) * WIDE
            bottom = top
            for lane in range(WIDE):  # kept so that the nearest is taken first
                if times[lane] == np.inf:
                    continue
                slot = top
                while slot > bottom and since[slot - 1] < times[lane]:
                    stack[slot], since[slot] = stack[slot - 1], since[slot - 1]
                    slot -= 1
                stack[slot], since[slot] = children + lane, times[lane]
                top += 1
            continue
        for lane in range(WIDE):
            if not times[lane] <= distance[last]:
                continue
            f = order[node * WIDE + lane]
            if not _meet(vertices, faces, f, origin, kx, ky, kz, sx, sy, along, out):
                continue
            t = out[3]
            if not (t > 0 and near <= t <= far) or (out[4] > 0 and not back_faces):
                continue
            if not (t < distance[last] or (t == distance[last] and f < face[last])):
                continue
            slot = last
            while slot > 0 and (t < distance[slot - 1] or (t == distance[slot - 1] and f < face[slot - 1])):
                distance[slot], face[slot] = distance[slot - 1], face[slot - 1]
                for corner in range(3):
                    barycentric[slot, corner] = barycentric[slot - 1, corner]
                slot -= 1
            distance[slot], face[slot] = t, f
            for corner in range(3):
                barycentric[slot, corner] = out[corner]


@njit(cache=True)
def _trace_some(
    vertices, faces, order, boxes, starts, origins, directions, layers, near, far, back_faces, worker, workers,
    out_face, out_barycentric, out_distance,
):  # fmt: skip
    """Every workers-th block of rays."""
    stack, since = np.empty(WIDE * len(starts), np.int64), np.empty(WIDE * len(starts))
    times, out, distance = np.empty(WIDE), np.empty(5), np.empty(layers)
    for block in range(worker * RAYS, len(origins), workers * RAYS):
        for ray in range(block, min(block + RAYS, len(origins))):
            distance[:] = np.inf
            out_face[ray, :] = -1
            out_barycentric[ray, :, :] = 0
            _trace(
                vertices, faces, order, boxes, starts, origins[ray], directions[ray], layers, near, far, back_faces,
                stack, since, times, out, distance, out_face[ray], out_barycentric[ray],
            )  # fmt: skip
            for layer in range(layers):
                out_distance[ray, layer] = distance[layer] if out_face[ray, layer] >= 0 else 0.0


@njit(parallel=True, cache=True)
def _trace_all(
    vertices, faces, order, boxes, starts, origins, directions, layers, near, far, back_faces, workers,
    out_face, out_barycentric, out_distance,
):  # fmt: skip
    for worker in prange(workers):
        _trace_some(
            vertices, faces, order, boxes, starts, origins, directions, layers, near, far, back_faces, worker, workers,
            out_face, out_barycentric, out_distance,
        )  # fmt: skip


def build_tree(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces along the curve (8 n,), boxes of all nodes (nodes, 6, 8) and where each level starts, lowest first."""
    workers = get_num_threads()
    low, high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
    scale = (1 << BITS) / np.maximum(high - low, 1e-300)
    keys = np.empty(len(faces), np.int64)
    _keys(vertices, faces, low, scale, _spread_table(), keys, workers)
    keys.sort()
    sizes = [-(-len(faces) // WIDE)]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // WIDE))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    boxes = np.empty((starts[-1], 6, WIDE), np.float32)
    order = np.empty(sizes[0] * WIDE, np.int32)
    _face_boxes(vertices, faces, keys, sizes[0], boxes, order, workers)
    _upper_boxes(boxes, starts)
    return order, boxes, starts


def trace_rays(
    vertices: np.ndarray,  # (v, 3) float32 or float64, contiguous
    faces: np.ndarray,  # (f, 3) int32 or int64, at least one
    origins: np.ndarray,  # (m, 3) float64
    directions: np.ndarray,  # (m, 3) float64 unit; NaN: no ray
    layers: int,
    near: float,
    far: float,
    back_faces: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face (m, layers) int32, barycentrics (m, layers, 3) and distance (m, layers) float32.

    Memory beside the result: about 40 bytes a face.
    """
    order, boxes, starts = build_tree(vertices, faces)
    face = np.empty((len(origins), layers), np.int32)
    barycentric = np.empty((len(origins), layers, 3), np.float32)
    distance = np.empty((len(origins), layers), np.float32)
    _trace_all(
        vertices, faces, order, boxes, starts, origins, directions, layers, near, far, back_faces, get_num_threads(),
        face, barycentric, distance,
    )  # fmt: skip
    return face, barycentric, distance
