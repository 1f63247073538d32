"""What structure from motion needs of one photo: SIFT features, its lens as far as EXIF tells, how sharp it is.

Detection and description are OpenCV's SIFT (Lowe 2004), which takes a quarter of the time of
the one inside COLMAP; descriptors are then scaled as COLMAP stores them (RootSIFT, Arandjelovic and Zisserman 2012).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .image_file import ImageHeader, decode, read_header

__all__ = ["PhotoFeatures", "all_features", "photo_features", "sharpness"]

_SHARPNESS_SIDE = 640
_SAME_SHAPE = (
    1.02  # a photo squarer than this is read as stored: its turned size cannot be told from the other
)


@dataclass(frozen=True)
class PhotoFeatures:
    """One photo. Pixels are those of the full-size photo as our readers read it, pixel centres at +0.5."""

    name: str
    path: Path
    width: int
    height: int
    up: tuple[float, float]
    """Direction in the image (x right, y down) that EXIF says was up when the photo was taken."""
    lens: str
    """Photos with the same text are taken to share one lens: size, camera and focal length."""
    focal: float
    """Pixels; from EXIF, else a guess."""
    focal_known: bool
    sharpness: float
    """See `sharpness`."""
    keypoints: np.ndarray
    """(k, 4) float32: x, y, scale in pixels, orientation in radians; strongest first."""
    descriptors: np.ndarray
    """(k, 128) uint8: RootSIFT times 512."""
    colours: np.ndarray
    """(k, 3) uint8 sRGB at the keypoints."""


def all_features(
    paths: list[Path], max_side: int, max_features: int, threads: int
) -> tuple[list[PhotoFeatures], dict[str, str]]:
    """Features of every readable photo in the order of `paths`, and name -> reason for the others."""
    import cv2

    found: list[PhotoFeatures] = []
    damaged: dict[str, str] = {}

    def one(path: Path) -> PhotoFeatures | str:
        try:
            return photo_features(path, max_side, max_features)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # a photo per thread beats many threads per photo
    try:
        with ThreadPoolExecutor(threads) as pool:
            for path, result in zip(paths, pool.map(one, paths)):
                if isinstance(result, str):
                    damaged[path.name] = result
                else:
                    found.append(result)
    finally:
        cv2.setNumThreads(before)
    return found, damaged


def photo_features(path: Path, max_side: int, max_features: int) -> PhotoFeatures:
    """Features of one photo, found with its longer side reduced to `max_side` pixels; transparent pixels have
    none. UserError if it cannot be decoded."""
    import cv2

    header = read_header(path)
    upright = _is_turned(header)
    pixels = decode(path, upright)
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1.0, max_side / max(width, height))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(pixels[..., :3], cv2.COLOR_RGB2GRAY)
    mask = np.where(pixels[..., 3] > 127, np.uint8(255), np.uint8(0)) if pixels.shape[2] == 4 else None
    # COLMAP's thresholds: a peak of 0.02 over the 3 scales of an octave, an edge ratio of 10
    sift = cv2.SIFT_create(max_features, 3, 0.02, 10, enable_precise_upscale=True)
    points, descriptors = sift.detectAndCompute(grey, mask)
    keypoints = np.array([(*p.pt, p.size / 2, np.radians(p.angle)) for p in points], np.float32).reshape(
        -1, 4
    )
    strongest = np.argsort([-p.response for p in points], kind="stable")[:max_features]
    keypoints = keypoints[strongest]
    at = np.rint(keypoints[:, :2]).astype(int).clip(0, (grey.shape[1] - 1, grey.shape[0] - 1))
    ratio = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
    colours = pixels[at[:, 1], at[:, 0], :3].copy()
    keypoints[:, :2] = (keypoints[:, :2] + 0.5) * ratio
    keypoints[:, 2] *= ratio.mean()
    lens, focal, known = _lens(path, header, width, height)
    return PhotoFeatures(
        name=path.name,
        path=path,
        width=width,
        height=height,
        up=(0.0, -1.0) if upright else _UP[header.orientation],
        lens=lens,
        focal=focal,
        focal_known=known,
        sharpness=sharpness(grey),
        keypoints=keypoints,
        descriptors=_root_sift(descriptors, strongest),
        colours=colours,
    )


def sharpness(
    grey: np.ndarray,  # (h, w) uint8
) -> float:
    """Variance of the Laplacian with the longer side reduced to 640 pixels (Pech-Pacheco et al. 2000).

    Comparable between pictures of one scene only. At reduced size noise counts less than focus.
    """
    import cv2

    scale = _SHARPNESS_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _root_sift(descriptors: np.ndarray | None, order: np.ndarray) -> np.ndarray:
    if descriptors is None:
        return np.zeros((0, 128), np.uint8)
    descriptors = descriptors[order]
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    return np.clip(np.rint(root * 512), 0, 255).astype(np.uint8)


def _is_turned(header: ImageHeader) -> bool:
    """Whether `assemble` will turn this photo, given intrinsics for its upright size."""
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    return header.orientation >= 5 and longer > _SAME_SHAPE * shorter and longer - shorter > 2


_UP = {
    1: (0.0, -1.0),
    2: (0.0, -1.0),
    3: (0.0, 1.0),
    4: (0.0, 1.0),
    5: (-1.0, 0.0),
    6: (-1.0, 0.0),
    7: (1.0, 0.0),
    8: (1.0, 0.0),
}
"""EXIF orientation -> up in the stored pixels (EXIF 2.32, tag 0x0112)."""


def _lens(path: Path, header: ImageHeader, width: int, height: int) -> tuple[str, float, bool]:
    """Which lens (a text that is equal for equal lenses), its focal length in pixels, whether EXIF says so.

    Without EXIF: 1.2 times the longer side (53 mm on 35 mm film), COLMAP's guess too.
    """
    longer = max(width, height)
    model, focal_35, focal_mm = _exif_lens(path, header)
    text = f"{width}x{height} {model} {focal_35:g} {focal_mm:g}"
    if focal_35 > 0:
        # CIPA DCG-001: equivalent by the diagonal, which is 43.27 mm on 35 mm film
        return text, focal_35 / 43.27 * float(np.hypot(width, height)), True
    return text, 1.2 * longer, False


def _exif_lens(path: Path, header: ImageHeader) -> tuple[str, float, float]:
    """Camera, focal length in 35 mm equivalent and in mm; "" and 0 where unknown. Never fails: EXIF is a hint."""
    if header.kind not in ("JPEG", "MPO", "PNG", "WEBP"):
        return "", 0.0, 0.0
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            details = exif.get_ifd(0x8769)
        camera = f"{exif.get(0x010F, '')} {exif.get(0x0110, '')} {details.get(0xA434, '')}"
        numbers = [float(details.get(tag) or 0) for tag in (0xA405, 0x920A)]
    except Exception:  # EXIF blocks are damaged in every way there is
        return "", 0.0, 0.0
    focal_35, focal_mm = (value if np.isfinite(value) and 0 < value < 1e4 else 0.0 for value in numbers)
    return "".join(c for c in camera if c.isprintable()).strip()[:100], focal_35, focal_mm
