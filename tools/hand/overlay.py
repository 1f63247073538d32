"""A fitted model drawn over the photo it was fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...fields.articulated.model_data import ModelData
from ...render.cameras import Cameras
from ...render.rasterise.picture import picture
from .pictures import SKIN, part_colours
from .posed_mesh import posed_vertices
from .result import HandResult

__all__ = ["camera_of", "overlay", "overlaid", "photo_of"]


def camera_of(result: HandResult, view: int, where: str) -> Cameras:
    """The camera that a fit was made with. Raises UserError for results of scans and keypoints without cameras."""
    records = result.info.get("cameras")
    if not records:
        raise UserError(
            f"{where}: no camera in this result: it was fitted to points in space; leave --photo out"
        )
    if view >= len(records):
        raise UserError(f"--view {view}: the result has {len(records)} cameras, numbered from 0")
    return Cameras.from_json(records)[view]


def photo_of(path: Path, camera: Cameras) -> np.ndarray:
    """(h, w, 3) float in [0, 1], of the camera's size."""
    from PIL import Image

    width, height = camera.size(0)
    try:
        with Image.open(path) as image:
            if image.size[0] * height != image.size[1] * width:
                raise UserError(
                    f"{path}: expected the proportions of {width} x {height}, its camera's, found {image.size[0]} x {image.size[1]}"
                )
            pixels = np.asarray(image.convert("RGB").resize((width, height)), np.float32) / 255
    except OSError as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
    return pixels


def overlaid(
    vertices: np.ndarray,  # (v, 3)
    faces: np.ndarray,
    camera: Cameras,
    behind: np.ndarray,  # (h, w, 3)
    colours: np.ndarray | None = None,  # (v, 3)
    opacity: float = 0.65,
) -> np.ndarray:  # (h, w, 3)
    """The surface, shaded and slightly transparent, over a picture of the camera's size."""
    colours = np.tile(SKIN, (len(vertices), 1)) if colours is None else colours
    drawn = picture(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        camera,
        colours=torch.from_numpy(colours).float(),
        background=torch.from_numpy(behind),
        smooth=True,
    ).numpy()
    return opacity * drawn + (1 - opacity) * behind


def overlay(
    data: ModelData,
    result: HandResult,
    where: str,  # the result's file: photos are relative to it
    *,
    photo: str | None = None,  # None: the one the result names
    view: int = 0,
    frame: int = 0,
    parts: bool = False,
    size: int = 512,  # the smaller side is enlarged to about this
) -> np.ndarray:  # (h, 2 w, 3)
    """The photo, and beside it the photo with the model."""
    camera = camera_of(result, view, where)
    if frame >= len(result.pose):
        raise UserError(f"--frame {frame}: there are {len(result.pose)} frames, numbered from 0")
    if photo is None:
        named = result.info.get("photos") or []
        if view >= len(named):
            raise UserError(f"{where}: the result names no photo of view {view}; give one with --photo FILE")
        photo = str(Path(where).parent / named[view])
    times = max(1, size // min(camera.size(0)))
    camera = camera.resized(*(times * side for side in camera.size(0)))
    behind = photo_of(Path(photo), camera)
    one = HandResult(
        result.model, result.shape, result.pose[frame : frame + 1], result.translation[frame : frame + 1]
    )
    vertices = posed_vertices(data, one)[0]
    drawn = overlaid(vertices, data.faces, camera, behind, part_colours(data) if parts else None)
    return np.concatenate((behind, drawn), 1)
