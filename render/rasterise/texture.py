"""Textures looked up with the blur that a pixel's footprint asks for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .fragments import Fragments
from .interpolation import interpolate
from .intersection import CHUNK, ray_plane

__all__ = ["mip_pyramid", "sample_texture", "texture_level"]

WRAPS = ("repeat", "clamp")


def mip_pyramid(texture: Tensor) -> list[Tensor]:
    """The texture (h, w, c) and its copies, each half as large (odd sides rounded down), to a single texel. Differentiable."""
    if texture.ndim != 3 or not texture.numel():
        raise UserError(f"texture of shape {tuple(texture.shape)}; give (h, w, c)")
    levels = [texture]
    while max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        size = max(height // 2, 1), max(width // 2, 1)
        channels = levels[-1].permute(2, 0, 1)[None]
        levels.append(torch.nn.functional.adaptive_avg_pool2d(channels, size)[0].permute(1, 2, 0))
    return levels


def sample_texture(
    pyramid: Tensor | Sequence[Tensor],  # (h, w, c), or the levels of `mip_pyramid`
    uv: Tensor,  # (..., 2)
    level: Tensor | None = None,  # (...) of `texture_level`; None: the texture as it is
    wrap: str = "repeat",
) -> Tensor:  # (..., c)
    """Bilinear within a level and linear between two (OpenGL 4.6, section 8.14). Row 0 is v = 1, as in OBJ files.

    `wrap`: what lies beyond [0, 1], "repeat" or "clamp". Differentiable with respect to the texture and uv; not to level.
    """
    levels = [pyramid] if isinstance(pyramid, Tensor) else list(pyramid)
    if wrap not in WRAPS:
        raise UserError(f"texture wrap {wrap!r}: give {' or '.join(WRAPS)}")
    shape, uv = uv.shape[:-1], uv.reshape(-1, 2)
    if level is None or len(levels) == 1:
        chosen = [(torch.zeros(len(uv), dtype=torch.int64, device=uv.device), torch.ones_like(uv[:, 0]))]
    else:
        level = level.detach().reshape(-1).to(uv.dtype).clamp(0, len(levels) - 1)
        lower = level.floor().clamp_max(max(len(levels) - 2, 0))
        chosen = [(lower.long(), 1 - (level - lower)), ((lower + 1).long(), level - lower)]
    sizes = torch.tensor([list(each.shape[:2]) for each in levels], device=uv.device)
    starts = torch.cumsum(sizes.prod(1), 0) - sizes.prod(1)
    table = torch.cat([each.reshape(-1, each.shape[2]) for each in levels])
    rows, weights = [], []
    for number, share in chosen:
        size = sizes[number]
        row, column = (1 - uv[:, 1]) * size[:, 0] - 0.5, uv[:, 0] * size[:, 1] - 0.5
        top, left = row.detach().floor(), column.detach().floor()
        down, right = row - top, column - left
        for y, weight_y in ((top, 1 - down), (top + 1, down)):
            for x, weight_x in ((left, 1 - right), (left + 1, right)):
                rows.append(
                    starts[number] + _wrap(y, size[:, 0], wrap) * size[:, 1] + _wrap(x, size[:, 1], wrap)
                )
                weights.append(share * weight_y * weight_x)
    values = torch.nn.functional.embedding_bag(
        torch.stack(rows, 1), table, per_sample_weights=torch.stack(weights, 1).to(table.dtype), mode="sum"
    )
    return values.reshape(*shape, -1)


def _wrap(texel: Tensor, size: Tensor, wrap: str) -> Tensor:
    texel = texel.long()
    return texel % size if wrap == "repeat" else torch.minimum(texel.clamp_min(0), size - 1)


@torch.no_grad()
def texture_level(
    found: Fragments,
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3) rasterised
    uv: Tensor,  # (t, 2)
    uv_faces: Tensor,  # (f, 3) rows of uv
    size: tuple[int, int],  # height and width of the texture
) -> Tensor:  # (..., K)
    """log2 of the texels that a pixel spans along its longer axis (OpenGL 4.6, equation 8.7); 0 where absent.

    The rays one pixel to the right and below are met with the same plane, whatever the lens. Not differentiable.
    """
    flat = found.face.reshape(-1)
    there = torch.nonzero(flat >= 0)[:, 0]
    level = torch.zeros(len(flat), dtype=vertices.dtype, device=vertices.device)
    here = interpolate(uv, uv_faces, found).reshape(-1, 2)
    texels = torch.tensor([size[1], size[0]], device=uv.device, dtype=torch.float64)
    for first in range(0, len(there), CHUNK):
        part = there[first : first + CHUNK]
        row = flat[part].long()
        span = torch.zeros(len(part), dtype=torch.float64, device=uv.device)
        for step in ((1.0, 0.0), (0.0, 1.0)):
            origins, directions = found.view.rows_beside(part // found.layers, step)
            weights, _ = ray_plane(vertices[faces[row].long()].double(), origins, directions)
            beside = (weights[:, :, None] * uv[uv_faces[row].long()].double()).sum(1)
            span = torch.maximum(
                span, ((beside - here[part]) * texels).norm(dim=1).nan_to_num(nan=1e30, posinf=1e30)
            )
        level[part] = span.clamp_min(1e-30).log2().to(level.dtype)
    return level.reshape(found.face.shape)
