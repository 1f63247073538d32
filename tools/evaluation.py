"""How close a trained scene comes to photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes

from ..datasets.splits import divided
from . import metrics
from .pictures import composite, encode, to_uint8

__all__ = ["background_of", "compare_views", "split_indices", "thumbnail_cameras", "truth", "unseen_indices"]


def split_indices(capture, split: str | None) -> tuple[str, list[int]]:
    """Name and frames of a split; None is "test" if the capture has one, and "all" otherwise."""
    present = {name: index for name, index in capture.splits.items() if len(index)}
    if split is None:
        split = "test" if "test" in present else "all"
    if split == "all":
        return split, list(range(len(capture.names)))
    if split not in present:
        advice = "; --holdout 8 at training keeps every 8th frame for testing" if split == "test" else ""
        raise UserError(
            f"{capture.name}: no frames in split {split!r}; there are {', '.join([*present, 'all'])}{advice}"
        )
    return split, [int(i) for i in present[split]]


def unseen_indices(capture, trained) -> tuple[str, list[int]]:
    """Which frames of another capture test a run that was trained on `trained`.

    The test frames if the data set itself names some; otherwise all but those at the pose of a training frame.
    """
    own = capture.splits.get("test", ())
    rule = divided(len(capture.names), None, None, [])["test"]
    if len(own) and not np.array_equal(own, rule):
        return "test", [int(i) for i in own]
    known = trained.cameras[trained.splits["train"]].camera_to_world.cpu()
    poses = capture.cameras.camera_to_world.cpu()
    # two files of one scene may round the same pose differently, by far less than neighbouring views differ
    tolerance = 1e-4 * float((known[:, :3, 3] - known[:, :3, 3].mean(0)).norm(dim=1).max())
    apart = (poses[:, None, :3, 3] - known[:, :3, 3]).norm(dim=-1) > tolerance
    turned = (poses[:, None, :3, :3] - known[:, :3, :3]).flatten(2).norm(dim=-1) > 1e-4
    unseen = torch.nonzero((apart | turned).all(1))[:, 0].tolist()
    if not unseen:
        raise UserError(
            f"{capture.folder}: training saw every frame of it; give --split all to evaluate them anyway"
        )
    return "unseen", unseen


def background_of(capture, image: np.ndarray) -> str | None:
    """What truth and rendering lie on: the benchmark's colour, white for other images with alpha, or None."""
    if capture.background is not None:
        return capture.background
    return "white" if image.shape[2] == 4 else None


def truth(capture, index: int) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """A frame as metrics see it: colour (h, w, 3) sRGB float32, mask (h, w) bool or None, and the background
    used.
    """
    image = capture.images[index]
    background = background_of(capture, image)
    mask = None if capture.masks is None else np.asarray(capture.masks[index])
    return composite(image, background), mask, background


def compare_views(
    scene,
    capture,
    indices: Sequence[int],
    *,
    images: Path | None = None,
    on_view: Callable[[dict], None] | None = None,
) -> dict:
    """Renders frames `indices` of `capture` and compares them with the photographs.

    Returns {"psnr", "ssim", "views": [{"name", "psnr", "ssim"}]}, with "lpips" beside them when it is
    installed: dB, and SSIM on sRGB in [0, 1]; means over the views. Masked pixels count nowhere. images: a
    folder that gets rendering, truth and error map of each view as PNG. on_view: called with each view's
    entry as it is ready.
    """
    views = []
    for index in indices:
        colour, mask, background = truth(capture, index)
        with torch.no_grad():
            rendered = scene.render_view(capture.cameras, index, background=background)["colour"]
        rendered = rendered.detach().cpu().float()
        wanted = torch.from_numpy(np.ascontiguousarray(colour))
        view = {"name": capture.names[index], **_scores(rendered, wanted, mask)}
        views.append(view)
        if images is not None:
            _write_images(Path(images), capture.names[index], rendered, wanted)
        if on_view is not None:
            on_view(view)
    keys = [key for key in views[0] if key != "name"] if views else ["psnr", "ssim"]
    return {**{key: _mean(view[key] for view in views) for key in keys}, "views": views}


def thumbnail_cameras(cameras, index: int, longest: int):
    """Camera `index` alone, scaled down so that no side is over `longest` pixels."""
    camera = cameras[index]
    size = max(int(v) for v in camera.sizes[0])
    return camera.downscaled(size / longest) if size > longest else camera


def _scores(rendered, wanted, mask) -> dict[str, float]:
    scores = {
        "psnr": min(float(metrics.psnr(rendered, wanted, mask)), 100.0),
        "ssim": float(metrics.ssim(rendered, wanted, mask)),
    }
    lpips = metrics.lpips_or_none(rendered, wanted)
    return scores if lpips is None else {**scores, "lpips": float(lpips)}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _write_images(folder: Path, name: str, rendered, wanted) -> None:
    stem = Path(name).with_suffix("").as_posix().replace("/", "_")
    for kind, picture in (
        ("render", to_uint8(rendered.numpy())),
        ("truth", to_uint8(wanted.numpy())),
        ("error", metrics.error_map(rendered, wanted)),
    ):
        atomic_write_bytes(folder / f"{stem}_{kind}.png", encode(picture))
