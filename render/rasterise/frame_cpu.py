"""A tiled rasteriser with a buffer of K layers, for the frame of one undistorted camera on the CPU.

Three passes, each parallel: vertices to homogeneous pixels; faces that can cover a pixel centre to the tiles they touch (counted,
then placed, so nothing can overflow and the order does not depend on the threads); tiles, one after another with their layers
in cache. Faces are neither clipped nor projected: with corners in homogeneous pixels (x z, y z, z), those of a face relative to
a pixel are (x z - px z, y z - py z), and what is inside follows from their areas as in `fragments_reference` (Woop, Benthin and
Wald 2013). All of it in float64; only the boxes that choose which pixels to try are float32, and widened by more than that rounds.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

__all__ = ["rasterise_frame"]

TILE = 16
"""Pixels along the side of a tile."""
MOST_TILES = 16
"""A face that touches more tiles than this goes into one list that every tile looks through: bounds the memory of the tiles' lists."""
MARGIN = 1.0 / 128.0
"""Pixels by which a face's box, held in float32, is widened."""
AHEAD = np.float32(1 - 2.0**-20)
"""Makes a face's least depth, in float32, smaller than rounding made it larger."""
BUCKETS = 512
"""Steps of depth in which the faces of a tile are ordered."""
REVIEW = 64
"""After so many faces it is looked up what a tile can still show."""
BEYOND = 30000.0
"""Pixel coordinates are clamped to this before they become integers."""


@njit(cache=True)
def _project(vertices, matrix, position, first, last, homogeneous, screen):
    """Homogeneous pixels (v, 3) float64, and x, y, z (v, 3) float32 for boxes; x is NaN where the box needs clipping."""
    for v in range(first, last):
        x = np.float64(vertices[v, 0]) - position[0]
        y = np.float64(vertices[v, 1]) - position[1]
        z = np.float64(vertices[v, 2]) - position[2]
        h0 = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z
        h1 = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z
        h2 = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z
        homogeneous[v, 0] = h0
        homogeneous[v, 1] = h1
        homogeneous[v, 2] = h2
        screen[v, 2] = np.float32(h2)
        if screen[v, 2] > np.float32(0):
            screen[v, 0] = np.float32(min(max(h0 / h2, -BEYOND), BEYOND))
            screen[v, 1] = np.float32(min(max(h1 / h2, -BEYOND), BEYOND))
        else:
            screen[v, 0] = np.float32(np.nan)
            screen[v, 1] = np.float32(np.nan)


@njit(parallel=True, cache=True)
def _project_all(vertices, matrix, position, homogeneous, screen, workers):
    count = len(vertices)
    for w in prange(workers):
        _project(
            vertices, matrix, position, count * w // workers, count * (w + 1) // workers, homogeneous, screen
        )


@njit(cache=True)
def _clipped_box(homogeneous, i, j, k, box):
    """Pixel bounds (x0, x1, y0, y1) of the part of a face ahead of the camera; False if there is none."""
    corner = (i, j, k)
    largest = max(abs(homogeneous[i, 2]), abs(homogeneous[j, 2]), abs(homogeneous[k, 2]))
    least = 1e-12 * largest
    box[0], box[1], box[2], box[3] = np.inf, -np.inf, np.inf, -np.inf
    if not largest > 0:
        return False
    any_ahead = False
    for e in range(3):
        p, q = corner[e], corner[(e + 1) % 3]
        zp, zq = homogeneous[p, 2], homogeneous[q, 2]
        if zp >= least:
            any_ahead = True
            _widen(box, homogeneous[p, 0] / zp, homogeneous[p, 1] / zp)
        if (zp >= least) != (zq >= least):
            share = (least - zp) / (zq - zp)
            x = homogeneous[p, 0] + share * (homogeneous[q, 0] - homogeneous[p, 0])
            y = homogeneous[p, 1] + share * (homogeneous[q, 1] - homogeneous[p, 1])
            _widen(box, x / least, y / least)
    return any_ahead


@njit(cache=True)
def _widen(box, x, y):
    box[0], box[1] = min(box[0], x), max(box[1], x)
    box[2], box[3] = min(box[2], y), max(box[3], y)


@njit(cache=True)
def _select(faces, homogeneous, screen, width, height, far, first, last, chosen, boxes, nearest, counts):
    """Faces of [first, last) whose box holds a pixel centre go to chosen[first:], and are counted into the tiles they touch.

    Returns how many there are. counts[-1] is the list of the large ones.
    """
    columns = (width + TILE - 1) // TILE
    large = len(counts) - 1
    found = first
    box = np.empty(4)
    for f in range(first, last):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        zi, zj, zk = screen[i, 2], screen[j, 2], screen[k, 2]
        z = min(zi, zj, zk)
        if z > np.float32(0):
            left, right = (
                min(screen[i, 0], screen[j, 0], screen[k, 0]),
                max(screen[i, 0], screen[j, 0], screen[k, 0]),
            )
            top, bottom = (
                min(screen[i, 1], screen[j, 1], screen[k, 1]),
                max(screen[i, 1], screen[j, 1], screen[k, 1]),
            )
        else:
            if max(zi, zj, zk) <= np.float32(0) or not _clipped_box(homogeneous, i, j, k, box):
                continue
            left, right = (
                np.float32(min(max(box[0], -BEYOND), BEYOND)),
                np.float32(min(max(box[1], -BEYOND), BEYOND)),
            )
            top, bottom = (
                np.float32(min(max(box[2], -BEYOND), BEYOND)),
                np.float32(min(max(box[3], -BEYOND), BEYOND)),
            )
        if z > far:
            continue
        x0 = max(int(np.ceil(left - np.float32(0.5 + MARGIN))), 0)
        x1 = min(int(np.floor(right - np.float32(0.5 - MARGIN))), width - 1)
        y0 = max(int(np.ceil(top - np.float32(0.5 + MARGIN))), 0)
        y1 = min(int(np.floor(bottom - np.float32(0.5 - MARGIN))), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        chosen[found] = f
        z = max(z * AHEAD, np.float32(0))
        boxes[found, 0], boxes[found, 1], boxes[found, 2], boxes[found, 3] = x0, x1, y0, y1
        nearest[found] = z
        found += 1
        tx0, tx1, ty0, ty1 = x0 // TILE, x1 // TILE, y0 // TILE, y1 // TILE
        if (tx1 - tx0 + 1) * (ty1 - ty0 + 1) > MOST_TILES:
            counts[large] += 1
        else:
            for ty in range(ty0, ty1 + 1):
                for tx in range(tx0, tx1 + 1):
                    counts[ty * columns + tx] += 1
    return found - first


@njit(parallel=True, cache=True)
def _select_all(faces, homogeneous, screen, width, height, far, chosen, boxes, nearest, counts, found):
    chunks, count = len(counts), len(faces)
    for c in prange(chunks):
        found[c] = _select(
            faces, homogeneous, screen, width, height, far, count * c // chunks, count * (c + 1) // chunks,
            chosen, boxes, nearest, counts[c],
        )  # fmt: skip


@njit(cache=True)
def _place(boxes, width, first, last, places, entries):
    """Writes the numbers of the chosen faces [first, last) into the lists of their tiles; places: where each list goes on."""
    columns = (width + TILE - 1) // TILE
    large = len(places) - 1
    for s in range(first, last):
        tx0, tx1, ty0, ty1 = (
            boxes[s, 0] // TILE,
            boxes[s, 1] // TILE,
            boxes[s, 2] // TILE,
            boxes[s, 3] // TILE,
        )
        if (tx1 - tx0 + 1) * (ty1 - ty0 + 1) > MOST_TILES:
            entries[places[large]] = s
            places[large] += 1
        else:
            for ty in range(ty0, ty1 + 1):
                for tx in range(tx0, tx1 + 1):
                    entries[places[ty * columns + tx]] = s
                    places[ty * columns + tx] += 1


@njit(parallel=True, cache=True)
def _place_all(boxes, width, count, found, places, entries):
    chunks = len(places)
    for c in prange(chunks):
        first = count * c // chunks
        _place(boxes, width, first, first + found[c], places[c], entries)


@njit(cache=True)
def _lost_tie(area, x1, y1, x2, y2, total):
    """Whether a ray exactly through the edge from (x1, y1) to (x2, y2) belongs to the face on the other side of it."""
    if area != 0:
        return False
    rise = y1 - y2
    return (rise if rise != 0 else x2 - x1) * total <= 0


@njit(cache=True)
def _draw(
    f,
    nearest,
    faces,
    homogeneous,
    x0,
    x1,
    y0,
    y1,
    lens,
    near,
    far,
    back_faces,
    left,
    top,
    layers,
    depth,
    face,
):
    """One face over the pixels of its box within a tile, into the tile's layers (TILE * TILE * layers)."""
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    az, bz, cz = homogeneous[i, 2], homogeneous[j, 2], homogeneous[k, 2]
    clipped = near > 0 or far < np.inf
    for row in range(y0, y1 + 1):
        line = ((row - top) * TILE - left) * layers + layers - 1
        first = x0
        while first <= x1 and nearest > depth[line + first * layers]:
            first += 1  # most rows of most faces are hidden: nothing is computed for them
        if first > x1:
            continue
        y = row + 0.5
        ay, by, cy = homogeneous[i, 1] - y * az, homogeneous[j, 1] - y * bz, homogeneous[k, 1] - y * cz
        # areas are linear along a row; swapping the ends of an edge negates both coefficients exactly, so neighbours still agree
        u0, u1 = homogeneous[j, 0] * cy - by * homogeneous[k, 0], bz * cy - by * cz
        v0, v1 = homogeneous[k, 0] * ay - cy * homogeneous[i, 0], cz * ay - cy * az
        w0, w1 = homogeneous[i, 0] * by - ay * homogeneous[j, 0], az * by - ay * bz
        for column in range(first, x1 + 1):
            last = line + column * layers
            if nearest > depth[last]:
                continue
            x = column + 0.5
            u, v, w = u0 - x * u1, v0 - x * v1, w0 - x * w1
            if not ((u >= 0 and v >= 0 and w >= 0) or (u <= 0 and v <= 0 and w <= 0)):
                continue
            total = u + v + w
            if total == 0 or (total > 0 and not back_faces):
                continue
            z = (u * az + v * bz + w * cz) / total
            if not (0 < z <= depth[last]):
                continue
            if u == 0 or v == 0 or w == 0:
                ax, bx, cx = (
                    homogeneous[i, 0] - x * az,
                    homogeneous[j, 0] - x * bz,
                    homogeneous[k, 0] - x * cz,
                )
                if (
                    _lost_tie(u, bx, by, cx, cy, total)
                    or _lost_tie(v, cx, cy, ax, ay, total)
                    or _lost_tie(w, ax, ay, bx, by, total)
                ):
                    continue
            if clipped:
                distance = z * np.sqrt(((x - lens[2]) * lens[0]) ** 2 + ((y - lens[3]) * lens[1]) ** 2 + 1)
                if not near <= distance <= far:
                    continue
            if z == depth[last] and f > face[last]:
                continue
            slot = last
            while slot > last - layers + 1 and (
                z < depth[slot - 1] or (z == depth[slot - 1] and f < face[slot - 1])
            ):
                depth[slot], face[slot] = depth[slot - 1], face[slot - 1]
                slot -= 1
            depth[slot], face[slot] = z, f


@njit(cache=True)
def _resolve(faces, homogeneous, lens, x, y, face, depth, layers, out_face, out_barycentric, out_distance):
    """Writes one pixel: barycentrics are computed for what stayed, not for what was tried."""
    stretch = np.sqrt(((x - lens[2]) * lens[0]) ** 2 + ((y - lens[3]) * lens[1]) ** 2 + 1)
    for layer in range(layers):
        f = face[layer]
        out_face[layer] = f
        if f < 0:
            out_distance[layer] = 0
            out_barycentric[layer, 0], out_barycentric[layer, 1], out_barycentric[layer, 2] = 0, 0, 0
            continue
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = homogeneous[i, 0] - x * homogeneous[i, 2], homogeneous[i, 1] - y * homogeneous[i, 2]
        bx, by = homogeneous[j, 0] - x * homogeneous[j, 2], homogeneous[j, 1] - y * homogeneous[j, 2]
        cx, cy = homogeneous[k, 0] - x * homogeneous[k, 2], homogeneous[k, 1] - y * homogeneous[k, 2]
        u, v, w = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
        share = 1 / (u + v + w)
        out_barycentric[layer, 0] = u * share
        out_barycentric[layer, 1] = v * share
        out_barycentric[layer, 2] = w * share
        out_distance[layer] = depth[layer] * stretch


@njit(cache=True)
def _queue(entries, starts, tile, boxes, bits, left, right, top, bottom, unsorted, queue, sizes):
    """The faces of a tile, roughly front to back, into queue: how many. Ties in a bucket keep their order.

    Depth is bucketed by the bits of its float32, which for numbers from 0 are in the order of the numbers.
    """
    count = 0
    low, high = np.int32(0x7FFFFFFF), np.int32(0)
    for each in (tile, len(starts) - 2):
        for e in range(starts[each], starts[each + 1]):
            s = entries[e]
            if boxes[s, 0] <= right and boxes[s, 1] >= left and boxes[s, 2] <= bottom and boxes[s, 3] >= top:
                unsorted[count] = s
                count += 1
                low, high = min(low, bits[s]), max(high, bits[s])
    shift = 0
    while (high - low) >> shift >= BUCKETS:
        shift += 1
    sizes[:] = 0
    for n in range(count):
        sizes[((bits[unsorted[n]] - low) >> shift) + 1] += 1
    for bucket in range(BUCKETS):
        sizes[bucket + 1] += sizes[bucket]
    for n in range(count):
        bucket = (bits[unsorted[n]] - low) >> shift
        queue[sizes[bucket]] = unsorted[n]
        sizes[bucket] += 1
    return count


@njit(cache=True)
def _farthest(depth, layers, width, height):
    """The largest depth at which something new could be seen in a tile."""
    largest = 0.0
    for row in range(height):
        for column in range(width):
            largest = max(largest, depth[(row * TILE + column) * layers + layers - 1])
    return largest


@njit(cache=True)
def _tiles(
    faces, homogeneous, chosen, boxes, nearest, bits, starts, entries, longest, order, worker, workers,
    width, height, lens, near, far, back_faces, layers, out_face, out_barycentric, out_distance,
):  # fmt: skip
    """Every workers-th tile of `order`."""
    columns = (width + TILE - 1) // TILE
    depth = np.empty(TILE * TILE * layers)
    face = np.empty(TILE * TILE * layers, np.int32)
    unsorted, queue = np.empty(longest, np.int32), np.empty(longest, np.int32)
    sizes = np.empty(BUCKETS + 1, np.int32)
    for number in range(worker, len(order), workers):
        tile = order[number]
        left, top = tile % columns * TILE, tile // columns * TILE
        right, bottom = min(left + TILE, width) - 1, min(top + TILE, height) - 1
        depth[:] = np.inf
        face[:] = -1
        count = _queue(entries, starts, tile, boxes, bits, left, right, top, bottom, unsorted, queue, sizes)
        limit = np.inf
        for n in range(count):
            s = queue[n]
            if n % REVIEW == REVIEW - 1:
                limit = _farthest(depth, layers, right - left + 1, bottom - top + 1)
            if nearest[s] > limit:
                continue
            _draw(
                chosen[s], nearest[s], faces, homogeneous,
                max(left, boxes[s, 0]), min(right, boxes[s, 1]), max(top, boxes[s, 2]), min(bottom, boxes[s, 3]),
                lens, near, far, back_faces, left, top, layers, depth, face,
            )  # fmt: skip
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                slot = ((row - top) * TILE + column - left) * layers
                pixel = row * width + column
                _resolve(
                    faces, homogeneous, lens, column + 0.5, row + 0.5, face[slot : slot + layers], depth[slot : slot + layers],
                    layers, out_face[pixel], out_barycentric[pixel], out_distance[pixel],
                )  # fmt: skip


@njit(parallel=True, cache=True)
def _tiles_all(
    faces, homogeneous, chosen, boxes, nearest, bits, starts, entries, longest, order, workers,
    width, height, lens, near, far, back_faces, layers, out_face, out_barycentric, out_distance,
):  # fmt: skip
    for worker in prange(workers):
        _tiles(
            faces, homogeneous, chosen, boxes, nearest, bits, starts, entries, longest, order, worker, workers,
            width, height, lens, near, far, back_faces, layers, out_face, out_barycentric, out_distance,
        )  # fmt: skip


def rasterise_frame(
    vertices: np.ndarray,  # (v, 3) float32 or float64, contiguous
    faces: np.ndarray,  # (f, 3) int32 or int64
    pose: np.ndarray,  # (4, 4) camera to world
    intrinsics: tuple[float, float, float, float],  # fx, fy, cx, cy
    width: int,
    height: int,
    layers: int,
    near: float,
    far: float,
    back_faces: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face (h * w, layers) int32, barycentrics (h * w, layers, 3) and distance (h * w, layers) float32.

    Memory beside the result: 36 bytes a vertex, 16 a face, and 4 for each tile a face touches, of which at most 16 count.
    """
    fx, fy, cx, cy = intrinsics
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ pose[:3, :3].T
    workers = get_num_threads()
    homogeneous, screen = np.empty((len(vertices), 3)), np.empty((len(vertices), 3), np.float32)
    _project_all(vertices, matrix, np.ascontiguousarray(pose[:3, 3]), homogeneous, screen, workers)

    chunks = max(1, min(4 * workers, len(faces) // 1024))
    tiles = -(-width // TILE) * -(-height // TILE)
    chosen, nearest = np.empty(len(faces), np.int32), np.empty(len(faces), np.float32)
    boxes = np.empty((len(faces), 4), np.int16)
    counts, found = np.zeros((chunks, tiles + 1), np.int32), np.empty(chunks, np.int64)
    _select_all(faces, homogeneous, screen, width, height, far, chosen, boxes, nearest, counts, found)
    starts = np.zeros(tiles + 2, np.int64)
    np.cumsum(counts.sum(0), out=starts[1:])
    places = starts[:-1] + np.cumsum(counts, 0) - counts
    entries = np.empty(starts[-1], np.int32)
    _place_all(boxes, width, len(faces), found, places, entries)

    length = np.diff(starts)
    longest = int(length[:-1].max() + length[-1])
    busiest_first = np.argsort(-length[:-1], kind="stable")
    face = np.empty((height * width, layers), np.int32)
    barycentric = np.empty((height * width, layers, 3), np.float32)
    distance = np.empty((height * width, layers), np.float32)
    lens = np.array([1 / fx, 1 / fy, cx, cy])
    _tiles_all(
        faces, homogeneous, chosen, boxes, nearest, nearest.view(np.int32), starts, entries, longest, busiest_first, workers,
        width, height, lens, near, far, back_faces, layers, face, barycentric, distance,
    )  # fmt: skip
    return face, barycentric, distance
