"""How close a learned image comes to its picture, and how large it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fieldstone.core.files import atomic_write_bytes

from .. import metrics
from ..pictures import encode, to_uint8
from ..training.image import trained_pixels
from ..training.run import Run
from .picture import open_picture
from .view import ImageScene

__all__ = ["evaluate_image", "score"]


def score(scene: ImageScene, protocol: str) -> dict[str, float]:
    """PSNR in dB and SSIM over all pixels; in generalisation also "psnr_held_out" and "psnr_trained" apart.

    8- and 16-bit pictures are compared as sRGB in [0, 1]; hdr under the mu-law curve, whose PSNR is "psnr_mu" too, with
    "relative_error", the mean of |a - b| / (b + 0.01 peak) in linear light.
    """
    picture = scene.picture
    values, target = scene.values(), picture.target
    result = {"psnr": min(metrics.psnr(values, target), 100.0)}
    if min(picture.width, picture.height) >= 11:
        result["ssim"] = metrics.ssim(values, target)
    if protocol == "generalisation":
        seen = trained_pixels(picture.height, picture.width, protocol)
        result["psnr_held_out"] = min(metrics.psnr(values, target, ~seen), 100.0)
        result["psnr_trained"] = min(metrics.psnr(values, target, seen), 100.0)
    if picture.depth == "hdr":
        linear, truth = scene.pixels(), picture.pixels
        result["psnr_mu"] = result["psnr"]
        result["relative_error"] = float(np.mean(np.abs(linear - truth) / (truth + 0.01 * picture.peak)))
    return result


def evaluate_image(run: Run, *, data: str | os.PathLike | None = None, images: Path | None = None) -> dict:
    """As `api.evaluate` gives it for scenes, with one view; "parameters" beside. data: where the picture is now."""
    scene = run.scene()
    if data is not None:
        scene.picture = open_picture(data, scene.picture.background)
    scores = score(scene, run.config["settings"]["protocol"])
    if images is not None:
        shown, truth = scene.values(), scene.picture.target
        stem = Path(scene.picture.name).stem
        pictures = {
            "render": to_uint8(shown),
            "truth": to_uint8(truth),
            "error": metrics.error_map(shown, truth),
        }
        for kind, picture in pictures.items():
            atomic_write_bytes(images / f"{stem}_{kind}.png", encode(picture))
    return {
        **scores,
        "views": [{"name": scene.picture.name, **scores}],
        "split": run.config["settings"]["protocol"],
        "capture": scene.picture.name,
        "parameters": scene.field.parameters_count(),
    }
