"""A trained radiance field as a scene in the source frame: what rendering, evaluation and mesh export call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from ...fields.radiance import RadianceField
from ...render.cameras import Cameras
from ...render.volume.renderer import VolumeRenderer

__all__ = ["BACKGROUNDS", "FieldScene", "background_colour"]

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def background_colour(background: object) -> tuple[float, float, float] | None:
    """(r, g, b) in [0, 1] for "white", "black" or three numbers; None stays None."""
    if background is None:
        return None
    if isinstance(background, str):
        if background not in BACKGROUNDS:
            raise UserError(
                f"unknown background {background!r}; there are {', '.join(BACKGROUNDS)}, or three numbers"
            )
        return BACKGROUNDS[background]
    r, g, b = (float(value) for value in background)
    return r, g, b


class FieldScene:
    """A field, its renderer, and the similarity from the source frame to the field cube."""

    def __init__(
        self,
        field: RadianceField,
        renderer: VolumeRenderer,
        frame: Similarity,
        *,
        background: object = None,
        chunk: int | None = None,  # rays at a time; None: 65,536, on a GPU 262,144
        batch: int = 1 << 18,
    ) -> None:
        self.field, self.renderer, self.frame = field, renderer, frame
        self.device = next(field.parameters()).device
        self.chunk = chunk or (1 << 18 if self.device.type == "cuda" else 1 << 16)
        self.background, self.batch = background, batch

    @torch.no_grad()
    def render_view(
        self,
        cameras: Cameras,
        index: int,
        *,
        background: object = None,  # "white", "black", (r, g, b); None: the capture's, else black
        normals: bool = False,
    ) -> dict[str, Tensor]:
        """Pictures of camera `index`, on the CPU: colour (h, w, 3) sRGB in [0, 1], opacity (h, w), z_depth and
        z_depth_median (h, w) in source units (0 where nothing is seen), and with `normals` (a second look at the density)
        normals (h, w, 3) unit in the source frame."""
        width, height = cameras.size(index)
        rays = cameras.image_rays(index)
        seen = rays.directions.isfinite().all(dim=1)
        origins = torch.from_numpy(self.frame.apply(rays.origins.double().numpy())).float()
        directions = torch.from_numpy(self.frame.rotate(rays.directions.double().numpy())).float()
        directions = torch.where(seen[:, None], directions, torch.tensor([0.0, 0.0, 1.0]))
        parts = []
        for start in range(0, len(origins), self.chunk):
            stop = start + self.chunk
            part = self.renderer.render(
                origins[start:stop].to(self.device),
                directions[start:stop].to(self.device),
                self.field.geometry,
                self.field.colour,
                normals=normals,
            )
            parts.append(
                [
                    None if value is None else value.cpu()
                    for value in (
                        part.colour,
                        part.opacity,
                        part.distance,
                        part.distance_median,
                        part.normals,
                    )
                ]
            )
        colour, opacity, distance, median = (torch.cat([part[i] for part in parts]) for i in range(4))
        colour, opacity, distance, median = (
            torch.where(seen.view(-1, *[1] * (value.ndim - 1)), value, torch.zeros_like(value))
            for value in (colour, opacity, distance, median)
        )
        behind = background_colour(background if background is not None else self.background) or (
            0.0,
            0.0,
            0.0,
        )
        colour = colour + (1 - opacity)[:, None] * torch.tensor(behind)
        z = rays.z_per_distance.nan_to_num() / self.frame.scale
        result = {
            "colour": colour.clamp(0, 1).view(height, width, 3),
            "opacity": opacity.clamp(0, 1).view(height, width),
            "z_depth": (distance * z).view(height, width),
            "z_depth_median": (median * z).view(height, width),
        }
        if normals:
            turned = torch.cat([part[4] for part in parts]).double().numpy() @ self.frame.rotation
            result["normals"] = torch.from_numpy(turned).float().view(height, width, 3)
        return result

    @torch.no_grad()
    def density(self, points: Tensor | np.ndarray) -> Tensor:
        """(n,) density per source unit at points (n, 3) in the source frame, on the CPU."""
        inside = self._to_cube(points)
        parts = [
            self.field.density(inside[start : start + self.batch].to(self.device)).cpu() * self.frame.scale
            for start in range(0, len(inside), self.batch)
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    @torch.no_grad()
    def colour(self, points: Tensor | np.ndarray, directions: Tensor | np.ndarray) -> Tensor:
        """(n, 3) sRGB at points (n, 3) seen along unit directions (n, 3), in the source frame, on the CPU."""
        inside = self._to_cube(points)
        turned = torch.from_numpy(self.frame.rotate(np.asarray(directions, np.float64))).float()
        parts = []
        for start in range(0, len(inside), self.batch):
            part = inside[start : start + self.batch].to(self.device)
            features = self.field.geometry(part)[1]
            ray = torch.arange(len(part), dtype=torch.int32, device=self.device)
            parts.append(
                self.field.colour(turned[start : start + self.batch].to(self.device), features, ray).cpu()
            )
        return torch.cat(parts) if parts else torch.zeros(0, 3)

    def occupied(self, points: Tensor | np.ndarray) -> Tensor:
        """(n,) bool: False where the occupancy grid knows that points (n, 3), source frame, lie in empty space."""
        return self.renderer.occupancy.occupied(self._to_cube(points).to(self.device)).cpu()

    def core_box(self) -> np.ndarray:
        """(2, 3) source frame: the smallest box around the occupied cells of the innermost cube, two cells wider."""
        cells = self.renderer.occupancy.cells[0]
        resolution = cells.shape[0]
        low, high = [], []
        for axis in range(3):
            others = [other for other in range(3) if other != axis]
            filled = torch.nonzero(cells.any(dim=others[1]).any(dim=others[0]))[:, 0]
            low.append(max(0, int(filled.min()) - 2) if len(filled) else 0)
            high.append(min(resolution, int(filled.max()) + 3) if len(filled) else resolution)
        corners = self.frame.inverse().apply(np.array([low, high], np.float64) / resolution)
        return np.stack([corners.min(axis=0), corners.max(axis=0)])

    def _to_cube(self, points: Tensor | np.ndarray) -> Tensor:
        points = points.detach().cpu().numpy() if isinstance(points, Tensor) else points
        return torch.from_numpy(self.frame.apply(np.asarray(points, np.float64))).float()
