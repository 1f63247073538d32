"""Which faces of a mesh the rays of a camera meet: the K nearest of each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends, missing_module
from fieldstone.core.errors import UserError

from ..cameras import Cameras, Rays
from .checks import check_mesh
from .intersection import intersect
from .view import View

__all__ = ["RASTERISING", "Fragments", "fragments"]

RASTERISING = Backends("rasterising")
RASTERISING.add(Backend("cpu", "fieldstone.render.rasterise.fragments_cpu", ("cpu",)))
RASTERISING.add(
    Backend("warp", "fieldstone.render.rasterise.fragments_warp", ("cuda", "cpu"), missing_module("warp"))
)
RASTERISING.add(Backend("reference", "fieldstone.render.rasterise.fragments_reference", ("cpu", "cuda")))
RASTERISING.add(  # after the reference: frames of undistorted cameras only, so never chosen unasked
    Backend(
        "nvdiffrast",
        "fieldstone.render.rasterise.fragments_nvdiffrast",
        ("cuda",),
        missing_module("nvdiffrast"),
    )
)


@dataclass(frozen=True, eq=False)
class Fragments:
    """What the rays meet, nearest first. `...` is (height, width) for a frame, (m,) for pixels or rays; K layers."""

    face: Tensor
    """(..., K) int32 row of `faces`; -1 in a layer that is absent. Absent layers come last."""
    barycentric: Tensor
    """(..., K, 3) weights of the face's corners, summing to 1; 0 where absent."""
    distance: Tensor
    """(..., K) along the ray, in units of the mesh; 0 where absent."""
    view: View
    """The rays they were found on."""

    @cached_property
    def z_depth(self) -> Tensor:
        """(..., K) along the optical axis; 0 where absent."""
        return self.distance * self.view.z_per_distance[..., None].to(self.distance.dtype)

    @property
    def mask(self) -> Tensor:
        """(..., K) bool: which layers are there."""
        return self.face >= 0

    @property
    def layers(self) -> int:
        return self.face.shape[-1]


def fragments(
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3) int32 or int64
    camera: Cameras | Rays,  # one camera for a frame; any number with index and pixels; or rays
    layers: int = 1,
    *,
    index: Tensor | None = None,  # (m,) int64 camera of each pixel; one for all if of length 1
    pixels: Tensor | None = None,  # (m, 2) pixel positions, centres at +0.5
    near: float = 0.0,
    far: float = math.inf,
    back_faces: bool = True,
    backend: str = "auto",
) -> Fragments:
    """The `layers` nearest surfaces of each ray, in the frame of the cameras.

    - `camera` alone: every pixel centre of that camera. With `index` and `pixels`: those pixels, across images. `Rays`: those.
    - Every ray is intersected exactly, whatever the lens: distortion is undone on the ray, never applied to vertices.
    - `near`, `far`: distances along the ray (a sphere, the same for every lens) between which surfaces count.
    - `back_faces`: whether faces seen from behind count. The front is where the corners run counter-clockwise.

    Differentiable once with respect to vertices (and to origins and directions of `Rays` that ask for it) through barycentric
    and distance; which face is hit is piecewise constant and has no gradient (`antialias` gives silhouettes one). The
    result has the dtype of `vertices`; faces are found in float64 on the CPU.

    Where surfaces lie at one distance the lower face comes first. A ray through an edge meets one of the two faces that share it, and
    not both, if they are on either side of it as seen along the ray; which of them may differ between back ends,
    because it hangs on the last bit. So may the order of surfaces closer together than rounding.

    Raises UserError for indices out of range and vertices that are not finite; warns of faces without area.
    """
    if int(layers) != layers or layers < 1:
        raise UserError(f"fragments: layers {layers}; give a whole number from 1")
    if not 0 <= near < far:
        raise UserError(f"fragments: near {near}, far {far}; give 0 <= near < far")
    vertices, faces = torch.as_tensor(vertices), torch.as_tensor(faces)
    view = View.of(camera, index, pixels)
    if vertices.device != view.device or faces.device != view.device:
        raise UserError(
            f"fragments: vertices on {vertices.device}, faces on {faces.device}, camera on {view.device}; move them to one"
        )
    check_mesh(vertices, faces)
    module = RASTERISING.load(backend, vertices.device.type)
    with torch.no_grad():
        face, barycentric, distance = module.visible(
            vertices.detach().contiguous(),
            faces.contiguous(),
            view,
            int(layers),
            float(near),
            float(far),
            bool(back_faces),
        )
    shape = (*view.shape, int(layers))
    face, barycentric, distance = face.reshape(shape), barycentric.reshape(*shape, 3), distance.reshape(shape)
    moving = view.given is not None and (
        view.given.origins.requires_grad or view.given.directions.requires_grad
    )
    if vertices.dtype != torch.float32 or (torch.is_grad_enabled() and (vertices.requires_grad or moving)):
        barycentric, distance = intersect(vertices, faces, face, view)
    return Fragments(face, barycentric, distance, view)
