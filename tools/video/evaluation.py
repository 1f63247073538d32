"""How close a learned video comes to its frames."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fieldstone.core.files import atomic_write_bytes

from .. import metrics
from ..pictures import encode, to_uint8
from ..training.run import Run
from .view import VideoScene

__all__ = ["evaluate_video", "score"]

_WINDOW = 11


def score(scene: VideoScene, on_view: Callable[[dict], None] | None = None) -> dict:
    """{"psnr", "ssim": means over frames, "views": of each frame}, on frames rounded to 8 bits, as a decoder gives them.

    SSIM is left out for frames smaller than its window.
    """
    views = []
    for number in range(scene.clip.frames):
        shown = scene.frame(number).astype(np.float32) / 255
        truth = scene.clip.frame(number).astype(np.float32) / 255
        view = {"name": f"frame_{number:05d}", "psnr": min(metrics.psnr(shown, truth), 100.0)}
        if min(truth.shape[:2]) >= _WINDOW:
            view["ssim"] = metrics.ssim(shown, truth)
        views.append(view)
        if on_view is not None:
            on_view(view)
    means = {
        key: float(np.mean([view[key] for view in views])) for key in ("psnr", "ssim") if key in views[0]
    }
    return {**means, "views": views}


def evaluate_video(
    run: Run,
    *,
    data: str | os.PathLike | None = None,  # where the video is now
    images: Path | None = None,  # folder for decoded frame, truth and error map of each frame
    on_view: Callable[[dict], None] | None = None,
) -> dict:
    """As `api.evaluate` gives it for scenes, with a view for each frame; "parameters" and "frames" beside."""
    scene = run.scene()
    if data is not None:
        scene.clip = scene.clip.moved(data)
    result = score(scene, on_view)
    if images is not None:
        for number, view in enumerate(result["views"]):
            shown, truth = scene.values(number), scene.clip.frame(number)
            error = metrics.error_map(shown, truth.astype(np.float32) / 255)
            for kind, picture in (("render", to_uint8(shown)), ("truth", truth), ("error", error)):
                atomic_write_bytes(images / f"{view['name']}_{kind}.png", encode(picture))
    return {
        **result,
        "split": "frames",
        "capture": scene.clip.name,
        "frames": scene.clip.frames,
        "parameters": scene.field.parameters_count(),
    }
