"""The method "dnmp": a scene of deformable mesh primitives, rasterised (Lu, Xu et al. 2023).

Stage 1 shapes the primitives to the points in their voxels and to the depth that views see; stage 2 freezes them and learns what they look like, and
the sky, from all pixels. Both are one run of the loop: the share of the budget says which it is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...fields.mlp.mlp import resolve_precision
from ...fields.primitives import PrimitiveAppearance, PrimitiveGeometry, template
from ...render.cameras import Rays
from ...render.rasterise import Fragments, fragments
from .checkpoint import prefixed, restore_generator, select
from .corrections import FrameCorrections
from .dnmp_block import cut_voxels, scene_frame, within_sight, worth_learning
from .dnmp_depth import seen_points
from .dnmp_far import FarField
from .dnmp_joint import moved
from .dnmp_population import densify, heaviest, missed_points, side_at
from .dnmp_scene import PrimitiveScene
from .dnmp_settings import dnmp_settings
from .dnmp_shading import Primitives, shade
from .dnmp_sweep import swept_points
from .methods import ParameterGroup
from .primitive_shapes import face_weights

__all__ = ["DnmpMethod"]

CACHE_BYTES = 512 << 20
"""Of fragments of training views, which stay the same once shapes are frozen; beyond it views are rasterised again."""
DISTORTION = 1e-3
"""Weight of the far field's distortion loss."""
PAPER_UNIT = 10.0
"""Metres by which the released scripts divide a scene ("scene_scale")."""
REFRESH = 50
"""Steps between rasterising anew where shapes move with colours."""
GRAZING = 0.05
"""Cosine below which a depth says too little of a surface to push it."""


class DnmpMethod:
    """See `methods.Method`."""

    name = "dnmp"
    exports = frozenset({"views", "mesh"})
    devices = ("cpu",)

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = options = dnmp_settings(settings)
        self.settings = asdict(options)
        if capture.images.has_alpha:
            raise UserError(
                f"{capture.folder}: method dnmp takes opaque photographs, these have transparent pixels; use hash-grid"
            )
        self.capture, self.device = capture, device
        self.generator = torch.Generator().manual_seed(seed)
        self.frame = scene_frame(capture, options)
        self.train_split = np.asarray(capture.splits["train"])
        self.cameras = capture.cameras.transformed(self.frame)
        self.corrections = FrameCorrections(
            len(self.train_split), exposure=options.exposure, motion=False, device=device
        )
        self.points = None
        if capture.points is not None:
            local = torch.from_numpy(self.frame.apply(np.asarray(capture.points, np.float64)))
            if options.points_share < 1:
                dropped = np.random.default_rng(seed).random(len(local)) >= options.points_share
                local = local[torch.from_numpy(~dropped)]
            self.points = self._near(within_sight(local, self.frame, capture.block, options))
            voxels, reach = cut_voxels(self.points, self.frame, capture.block, options, seed)
            placed = sum(len(each.centres) for each in voxels)
            spare = max(2048, int(options.spare * placed)) if options.spare else 0
            free = options.shapes == "vertices"
            self.geometry = PrimitiveGeometry.of(voxels, options.start, free=free, spare=spare)
            self._samples = torch.cat([torch.from_numpy(each.points) for each in voxels])
            self._samples = torch.cat([self._samples, torch.zeros(spare, *self._samples.shape[1:])])
        else:
            self.geometry, reach, spare = PrimitiveGeometry(0), 1.0, 0
        self._spare = slice(len(self.geometry) - spare, len(self.geometry))
        self._build(len(self.geometry), seed, reach)
        self._images: dict[int, Tensor] = {}
        self._depths: dict[int, tuple[Tensor, Tensor]] = {}
        self._found: OrderedDict[int, Fragments] = OrderedDict()
        self._worth: dict[int, Tensor] = {}
        self._frozen: tuple[Tensor, Tensor] | None = None
        self._stage_two = False
        self._moving = False
        self.densified, self.pruned = options.spare == 0, options.prune == 0

    def _near(self, points: Tensor) -> Tensor:
        """Points within reach of the cameras; UserError if no training view has one in its picture."""
        index = torch.from_numpy(self.train_split[:: max(1, len(self.train_split) // 16)])
        seen = sum(len(seen_points(points, self.cameras[int(i)])[0]) for i in index)
        if seen < 10 * len(index):
            nearest = (
                float(torch.cdist(points[:: max(1, len(points) // 5000)], self.cameras.positions).min())
                if len(points)
                else math.inf
            )
            raise UserError(
                f"{self.capture.folder}: of {len(points)} points {seen} are seen in {len(index)} training views, the nearest is {nearest:.3g} "
                "from a camera; points and poses are not in one frame or unit"
            )
        return points

    def _build(self, count: int, seed: int, half_side: float) -> None:
        options = self.options
        self.half_side = half_side
        finest = 2 * self.half_side / (options.voxel / 16)
        self.appearance = PrimitiveAppearance(
            42 * count,
            features=options.features,
            levels=options.hash_levels,
            finest_resolution=int(min(max(finest, 256), 8192)),
            hidden=options.hidden,
            hidden_layers=options.hidden_layers,
            view_dependent=options.view_dependent,
            frequencies=options.frequencies,
            backend=options.backend,
            precision=resolve_precision(options.precision, self.device),
            generator=torch.Generator().manual_seed(seed),
        )
        if options.preset == "paper" and options.features == 21:
            self.appearance.start_from(self.geometry.vertices().detach() / PAPER_UNIT)
        self.far = None
        if options.far:
            self.far = FarField(
                np.zeros(3),
                float(self.capture.extent.half_side),
                levels=options.far_levels,
                cone=options.far_step,
                hidden=options.hidden,
                backend=options.backend,
                precision=resolve_precision(options.precision, self.device),
                seed=seed + 1,
            )

    def groups(self) -> list[ParameterGroup]:
        if not len(self.geometry):
            raise UserError(
                f"{self.capture.folder}: no point cloud; method dnmp starts from LiDAR or COLMAP points"
            )
        rate, look = self.options.learning_rate, self.appearance
        tables = [grid.table for grid in (look.grid, look.sky_grid) if grid is not None]
        for table in tables:
            table.gradient_in_place = True
        # sparse: entries without a gradient stay, so that shapes rest in stage 2
        groups = [
            ParameterGroup(
                "shapes",
                [self.geometry.codes if self.geometry.free is None else self.geometry.free],
                self.options.shape_learning_rate,
                sparse=True,
            ),
            ParameterGroup(
                "shifts", [self.geometry.shifts], self.options.shape_learning_rate / 2, sparse=True
            ),
            ParameterGroup("grids", tables, rate, sparse=True),
            ParameterGroup(
                "heads",
                [
                    p
                    for head in (look.opacity_head, look.colour_head, look.sky_head)
                    for p in head.parameters()
                ],
                rate / 2,
            ),
        ]
        if look.vertex is not None:
            groups.append(ParameterGroup("vertices", [look.vertex], rate, sparse=True))
        if self.far is not None:
            groups += self.far.groups()
        return groups + self.corrections.groups()

    def before_step(self, step: int, progress: float) -> None:
        options = self.options
        second = progress >= options.geometry_share
        if not self.densified and progress >= 0.4 * options.geometry_share:
            self._densify()
        if second and self._frozen is None:
            self.geometry.tidy()
            self._freeze()
            if self.far is not None and not self.far.steps:
                closed = [self._fragments(view).mask[..., 0] for view in range(len(self.train_split))]
                self.far.restrict(self.cameras[self.train_split], closed)
        self._stage_two = second
        if not second:
            return
        half_way = progress >= 0.5 * (1 + options.geometry_share)
        if half_way and not self.pruned:
            self._prune()
        self._moving = options.joint and half_way
        if self._moving and step % REFRESH == 0:
            self._freeze()
        if self.far is not None:
            self.far.before_step(self.generator)

    @torch.no_grad()
    def _freeze(self) -> None:
        """Takes shapes as they are now for what is rasterised."""
        self._frozen = self.geometry.vertices(), self.geometry.faces
        self._found.clear()
        self._worth.clear()

    @torch.no_grad()
    def _densify(self) -> None:
        """New primitives at points that no primitive explains, of the cloud and of what photographs show where there is none."""
        options, views = self.options, range(len(self.train_split))
        cameras = self.cameras[self.train_split]
        vertices, faces = self.geometry.vertices(), self.geometry.faces
        seen = [(cameras[view], fragments(vertices, faces, cameras[view], 1)) for view in views]
        missed = missed_points(self.points, seen, options.voxel)
        nearest = torch.cdist(torch.from_numpy(missed), cameras.positions).amin(1).numpy()
        points, sides = [missed], [side_at(options.voxel, nearest)]
        if options.sweep:
            bare = [~found.mask[..., 0] for _, found in seen]
            swept, side = swept_points(cameras, self._image, bare, options.voxel)
            points, sides = [*points, swept], [*sides, side]
        points, sides = np.concatenate(points), np.concatenate(sides)
        inside = np.abs(points).max(1, initial=0) < self.half_side
        if self.capture.block is not None:
            inside &= self.capture.block.near(self.frame.inverse().apply(points))
        rows, samples = densify(
            self.geometry,
            points[inside],
            sides[inside],
            minimum=options.minimum_points,
            start=options.start,
            generator=np.random.default_rng(len(points)),
        )
        self._samples[rows] = samples
        self.densified = True

    @torch.no_grad()
    def _prune(self) -> None:
        """Removes the primitives that no training view shows."""
        cameras = self.cameras[self.train_split]
        views = ((cameras[view], self._fragments(view)) for view in range(len(self.train_split)))
        self.geometry.alive &= heaviest(self._primitives(), views) >= self.options.prune
        self._freeze()
        self.pruned = True

    def batch(self, step: int) -> object:
        if not self._stage_two:
            depth = self.options.depth_weight > 0 and step % 4 == 3
            if depth:
                return "depth", int(torch.randint(len(self.train_split), (1,), generator=self.generator))
            alive = torch.nonzero(self.geometry.alive)[:, 0]
            count = min(self.options.primitives_a_step, len(alive))
            return "points", alive[torch.randperm(len(alive), generator=self.generator)[:count]]
        views = torch.randint(len(self.train_split), (self.options.views_a_step,), generator=self.generator)
        return "pixels", views

    def loss(self, batch: object) -> tuple[Tensor, dict[str, float]]:
        kind, what = batch
        if kind == "points":
            weights = face_weights(1, self.generator)
            loss = self.geometry.point_loss(what, self._samples[what], weights)
            return loss, {
                "psnr": 0.0,
                "rays": 0,
                "samples": self._samples.shape[1] * len(what),
                "shape_loss": float(loss.detach()),
            }
        return self._depth_loss(what) if kind == "depth" else self._colour_loss(what)

    def _depth_loss(self, view: int) -> tuple[Tensor, dict[str, float]]:
        camera = self.cameras[int(self.train_split[view])]
        if view not in self._depths:
            self._depths[view] = seen_points(self.points, camera)
        pixel, z = self._depths[view]
        vertices, faces = self.geometry.vertices(), self.geometry.faces
        with torch.no_grad():
            found = fragments(vertices, faces, camera, 1)
            rows = torch.nonzero(found.mask.reshape(-1)[pixel])[:, 0]
            rows = rows[torch.randperm(len(rows), generator=self.generator)[: self.options.pixels]]
        width, _ = camera.size(0)
        at = torch.stack([pixel[rows] % width, pixel[rows] // width], 1).double() + 0.5
        face = found.face.reshape(-1)[pixel[rows]]
        corners = vertices[faces[face.long()].long()]
        rays = camera.rays(torch.zeros(1, dtype=torch.int64), at)
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        slope = (normal * rays.directions).sum(1)
        steep = slope.detach().abs() > GRAZING * normal.detach().norm(dim=1)
        distance = (normal * (corners[:, 0] - rays.origins)).sum(1) / torch.where(
            steep, slope, torch.ones_like(slope)
        )
        # relative to the depth, Huber: an edge where points and surface are metres apart must not outweigh the rest
        relative = (distance * rays.z_per_distance / z[rows] - 1)[steep]
        loss = (
            self.options.depth_weight
            * torch.nn.functional.huber_loss(relative, torch.zeros_like(relative), delta=0.02)
            * 50
        )
        if not len(relative):
            loss = 0.0 * vertices.sum()
        error = float(((relative.detach().abs()) * z[rows][steep]).median()) if len(relative) else 0.0
        return loss, {"rays": len(relative), "samples": len(relative), "z_depth_error": error}

    def _colour_loss(self, views: Tensor) -> tuple[Tensor, dict[str, float]]:
        each = self.options.pixels // len(views)
        faces, weights, colours, directions, origins, frames = [], [], [], [], [], []
        for view in views.tolist():
            camera, image = self.cameras[int(self.train_split[view])], self._image(view)
            found = self._fragments(view)
            chosen = torch.randint(len(image), (each,), generator=self.generator)
            if self.capture.block is not None:
                worth = self._worth_learning(view, found)
                chosen = worth[chosen * len(worth) // len(image)]
            if self.capture.masks is not None:
                usable = torch.from_numpy(self.capture.masks[int(self.train_split[view])].copy()).reshape(-1)
                chosen = chosen[usable[chosen]]
            faces.append(found.face.flatten(0, 1)[chosen])
            weights.append(found.barycentric.flatten(0, 1)[chosen])
            colours.append(image[chosen].float() / 255)
            width, _ = camera.size(0)
            at = torch.stack([chosen % width, chosen // width], 1).double() + 0.5
            rays = camera.rays(torch.zeros(1, dtype=torch.int64), at)
            directions.append(rays.directions)
            origins.append(rays.origins)
            frames.append(torch.full((len(chosen),), view))
        face, barycentric, target = torch.cat(faces), torch.cat(weights), torch.cat(colours)
        rays = Rays(torch.cat(origins), torch.cat(directions), torch.ones(len(face)))
        scene = self._primitives()
        if self._moving:
            vertices, barycentric = moved(self.geometry, scene, face, rays)
            scene = scene._replace(vertices=vertices)
        seen = shade(scene, face, barycentric, rays.directions, rays.origins, self.generator)
        colour = self.corrections.expose(seen.colour, torch.cat(frames))
        loss = torch.nn.functional.huber_loss(colour, target, delta=0.1)
        if self.far is not None:
            loss, self.far.spread = loss + DISTORTION * self.far.spread, 0.0
        error = float((colour - target).detach().square().mean())
        return loss, {
            "psnr": -10 * math.log10(max(error, 1e-12)),
            "rays": len(face),
            "samples": int((face >= 0).sum()),
        }

    def _image(self, view: int) -> Tensor:
        if view not in self._images:
            pixels = self.capture.images.uint8(int(self.train_split[view]))
            self._images[view] = torch.from_numpy(np.array(pixels)).reshape(-1, pixels.shape[2])
        return self._images[view]

    def _worth_learning(self, view: int, found: Fragments) -> Tensor:
        """Pixels of a training view that say something of the block."""
        if view not in self._worth:
            centres = self.frame.inverse().apply(self.geometry.centres.double().numpy())
            near = torch.from_numpy(self.capture.block.near(centres))
            self._worth[view] = worth_learning(found.face.flatten(0, 1), self._frozen[1], near)
        return self._worth[view]

    def _fragments(self, view: int) -> Fragments:
        """Of a training view; kept while they fit in memory."""
        if view in self._found:
            self._found.move_to_end(view)
            return self._found[view]
        found = fragments(
            *self._frozen, self.cameras[int(self.train_split[view])], self.options.layers, back_faces=False
        )
        self._found[view] = found
        size = found.face.numel() * 20
        while size * len(self._found) > CACHE_BYTES and len(self._found) > 1:
            self._found.popitem(last=False)
        return found

    def state(self) -> dict[str, Tensor]:
        geometry = {
            name: value
            for name, value in self.geometry.state_dict().items()
            if not name.startswith("shapes.")
        }
        tensors = prefixed("geometry.", geometry)
        # the decoder goes along, so that a run outlives a change of the one we ship
        tensors |= prefixed("decoder.", self.geometry.shapes.decoder.state_dict())
        tensors |= prefixed("appearance.", self.appearance.state_dict())
        tensors |= prefixed("corrections.", self.corrections.state())
        if self.far is not None:
            tensors |= prefixed("far.", self.far.state())
        if self.options.joint and self._frozen is not None:
            tensors["frozen"] = self._frozen[0]
        return tensors | {
            "generator": self.generator.get_state(),
            "half_side": torch.tensor(self.half_side, dtype=torch.float64),
            "added": self._samples[self._spare],
            "done": torch.tensor([self.densified, self.pruned]),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        stored = select(state, "geometry.")
        if len(stored["codes"]) != len(self.geometry):
            if len(self.geometry):
                raise ValueError(
                    f"{len(stored['codes'])} primitives stored, {len(self.geometry)} from the points"
                )
            self.geometry = PrimitiveGeometry(len(stored["codes"]), free="free" in stored)
        own = {
            name: value for name, value in self.geometry.state_dict().items() if name.startswith("shapes.")
        }
        self.geometry.load_state_dict(own | stored)
        self.geometry.shapes.decoder.load_state_dict(select(state, "decoder."))
        if self.appearance.vertex is None or len(self.appearance.vertex) != 42 * len(self.geometry):
            self._build(len(self.geometry), 0, float(state["half_side"]))
        self.appearance.load_state_dict(select(state, "appearance."))
        self.corrections.load_state(select(state, "corrections."))
        if self.far is not None:
            self.far.load_state(select(state, "far."))
        restore_generator(self.generator, state["generator"])
        self.densified, self.pruned = state["done"].tolist()
        if self.points is not None:
            self._samples[self._spare] = state["added"]
        self._frozen = (state["frozen"], self.geometry.faces) if "frozen" in state else None
        self._found.clear()

    @torch.no_grad()
    def scene(self) -> PrimitiveScene:
        """Of the primitives that are alive alone, numbered anew."""
        positions = self.cameras[self.train_split].positions.float()
        alive = self.geometry.alive
        rows = (42 * torch.nonzero(alive) + torch.arange(42)).reshape(-1)
        vertices = self.geometry.vertices()[rows]
        faces = (
            template().faces.int()[None]
            + 42 * torch.arange(int(alive.sum()), dtype=torch.int32)[:, None, None]
        )
        appearance = self.appearance.of_vertices(rows)
        scene = Primitives(vertices, faces.reshape(-1, 3), appearance, self.half_side, self.far)
        return PrimitiveScene(scene, self.frame, self.options.layers, positions)

    @torch.no_grad()
    def _primitives(self) -> Primitives:
        vertices, faces = self._frozen or (self.geometry.vertices(), self.geometry.faces)
        return Primitives(vertices, faces, self.appearance, self.half_side, self.far)
