"""Small pictures of how a run came along."""

from __future__ import annotations

from fieldstone.core.files import atomic_write_bytes

from ..evaluation import background_of, split_indices, thumbnail_cameras
from ..pictures import encode, to_uint8
from .run import Run

__all__ = ["preview_frame", "write_preview"]

_LONGEST = 320


def preview_frame(capture) -> int:
    """The frame shown: the middle one of those held out, or of all."""
    _, frames = split_indices(capture, None)
    return frames[len(frames) // 2]


def write_preview(run: Run, scene, capture, step: int) -> None:
    """Renders the preview frame at up to 320 pixels into `previews/step_<step>.jpg`."""
    import torch

    frame = preview_frame(capture)
    camera = thumbnail_cameras(capture.cameras, frame, _LONGEST)
    with torch.no_grad():
        view = scene.render_view(camera, 0, background=background_of(capture, capture.images[frame]))
    picture = to_uint8(view["colour"].detach().cpu().numpy())
    atomic_write_bytes(run.previews / f"step_{step:07d}.jpg", encode(picture, "jpeg"))
