"""Fragments through Warp's tree of boxes: the same kernel on CUDA and, one thread, on the CPU.

Warp finds the faces whose box a ray meets; the ray is intersected with each in float64, by the test of `fragments_reference`, and the
nearest are kept in the order that `fragments` promises. (`mesh_query_ray` would return one float32 hit, and layers by stepping
past each hit lose what lies closer together than the step.)
"""
# No postponed annotations: Warp reads those of a kernel as it is defined.

from functools import cache

import torch
from torch import Tensor

from fieldstone.core.lazy import require

from .view import View

__all__ = ["visible"]

PADDING = 1e-6
"""Boxes and rays are float32 in Warp: boxes are widened by this share of the largest coordinate."""


@cache
def _warp():
    wp = require("warp", "cuda", "rasterising with Warp")
    wp.config.quiet = True
    wp.init()
    return wp


@cache
def _kernel():
    wp = _warp()

    @wp.func
    def lost_tie(
        area: wp.float64, x1: wp.float64, y1: wp.float64, x2: wp.float64, y2: wp.float64, total: wp.float64
    ):
        """Whether a ray exactly through the edge belongs to the face on its other side."""
        rise = y1 - y2
        if rise == wp.float64(0.0):
            rise = x2 - x1
        return area == wp.float64(0.0) and rise * total <= wp.float64(0.0)

    @wp.kernel(
        module="unique", module_options={"fuse_fp": False}
    )  # an edge's two areas must be exact negatives
    def trace(
        tree: wp.uint64,
        vertices: wp.array(dtype=wp.vec3d),
        faces: wp.array2d(dtype=wp.int32),
        origins: wp.array(dtype=wp.vec3d),
        directions: wp.array(dtype=wp.vec3d),
        layers: wp.int32,
        near: wp.float64,
        far: wp.float64,
        back_faces: wp.bool,
        slack: wp.float32,
        face: wp.array2d(dtype=wp.int32),
        barycentric: wp.array2d(dtype=wp.vec3f),
        distance: wp.array2d(dtype=wp.float64),
    ):
        ray = wp.tid()
        o = origins[ray]
        d = directions[ray]
        kz = wp.int32(0)
        if wp.abs(d[1]) > wp.abs(d[kz]):
            kz = wp.int32(1)
        if wp.abs(d[2]) > wp.abs(d[kz]):
            kz = wp.int32(2)
        kx = (kz + 1) % 3
        ky = (kz + 2) % 3
        along = d[kz]
        if not (wp.abs(along) > wp.float64(0.0)):  # also NaN: the lens sees nothing here
            return
        sx = d[kx] / along
        sy = d[ky] / along
        last = layers - 1
        zero = wp.float64(0.0)
        start = wp.vec3f(wp.float32(o[0]), wp.float32(o[1]), wp.float32(o[2]))
        towards = wp.vec3f(wp.float32(d[0]), wp.float32(d[1]), wp.float32(d[2]))
        query = wp.bvh_query_ray(tree, start, towards)
        f = wp.int32(0)
        reach = wp.float32(wp.min(far, wp.float64(3.0e38)))
        while wp.bvh_query_next(query, f, reach):
            a = vertices[faces[f, 0]] - o
            b = vertices[faces[f, 1]] - o
            c = vertices[faces[f, 2]] - o
            ax = a[kx] - sx * a[kz]
            ay = a[ky] - sy * a[kz]
            bx = b[kx] - sx * b[kz]
            by = b[ky] - sy * b[kz]
            cx = c[kx] - sx * c[kz]
            cy = c[ky] - sy * c[kz]
            u = bx * cy - by * cx
            v = cx * ay - cy * ax
            w = ax * by - ay * bx
            total = u + v + w
            inside = (u >= zero and v >= zero and w >= zero) or (u <= zero and v <= zero and w <= zero)
            if not inside or total == zero:
                continue
            if (
                lost_tie(u, bx, by, cx, cy, total)
                or lost_tie(v, cx, cy, ax, ay, total)
                or lost_tie(w, ax, ay, bx, by, total)
            ):
                continue
            t = (u * a[kz] + v * b[kz] + w * c[kz]) / total / along
            if not (t > zero and t >= near and t <= far):
                continue
            if not back_faces and total * along > zero:
                continue
            if t > distance[ray, last] or (t == distance[ray, last] and f > face[ray, last]):
                continue
            slot = wp.int32(last)
            while slot > 0:
                before = distance[ray, slot - 1]
                if t > before or (t == before and f > face[ray, slot - 1]):
                    break
                distance[ray, slot] = before
                face[ray, slot] = face[ray, slot - 1]
                barycentric[ray, slot] = barycentric[ray, slot - 1]
                slot = slot - 1
            distance[ray, slot] = t
            face[ray, slot] = f
            barycentric[ray, slot] = wp.vec3f(
                wp.float32(u / total), wp.float32(v / total), wp.float32(w / total)
            )
            reach = wp.float32(wp.min(distance[ray, last], wp.float64(3.0e38))) * wp.float32(1.000001) + slack

    return trace


def visible(
    vertices: Tensor, faces: Tensor, view: View, layers: int, near: float, far: float, back_faces: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `fragments.fragments`: face (m, K) int32, barycentric (m, K, 3), distance (m, K) float32."""
    wp, device = _warp(), vertices.device
    face = torch.full((view.count, layers), -1, dtype=torch.int32, device=device)
    barycentric = torch.zeros(view.count, layers, 3, device=device)
    distance = torch.full((view.count, layers), torch.inf, dtype=torch.float64, device=device)
    if len(faces) and view.count:
        origins, directions, _ = (part.detach().contiguous() for part in view.rays)
        slack = PADDING * float(vertices.abs().max() + origins.abs().max())
        corners = vertices[faces.long()]
        lower, upper = (
            (corners.amin(1).float() - slack).contiguous(),
            (corners.amax(1).float() + slack).contiguous(),
        )
        tree = wp.Bvh(wp.from_torch(lower, dtype=wp.vec3f), wp.from_torch(upper, dtype=wp.vec3f))
        wp.launch(
            _kernel(),
            dim=view.count,
            inputs=[
                tree.id,
                wp.from_torch(vertices.double().contiguous(), dtype=wp.vec3d),
                wp.from_torch(faces.int().contiguous()),
                wp.from_torch(origins, dtype=wp.vec3d),
                wp.from_torch(directions, dtype=wp.vec3d),
                layers,
                near,
                far,
                back_faces,
                slack,
                wp.from_torch(face),
                wp.from_torch(barycentric, dtype=wp.vec3f),
                wp.from_torch(distance),
            ],
            device=wp.device_from_torch(device),
        )
        if device.type == "cuda":
            wp.synchronize_device(wp.device_from_torch(device))  # the tree must outlive the launch
    return face, barycentric, torch.where(face >= 0, distance, 0).float()
