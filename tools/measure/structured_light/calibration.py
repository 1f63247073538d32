"""The calibration of a stereo pair: two lenses and the pose between them, in OpenCV's convention, and OpenCV's files.

Here, as in OpenCV's files, the centre of the pixel in column j and row i is (j, i); the rest of Fieldstone has it at
(j + 0.5, i + 0.5), and `StereoCalibration.cameras` converts. x_right = R x_left + T, in `unit`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from ..units import conversion, parse_unit

__all__ = ["Lens", "StereoCalibration", "read_calibration", "write_calibration"]

_LARGEST_BYTES = 4 << 20
_NAMES = {  # what makers and tutorials call the entries
    "K1": ("M1", "K1", "cameraMatrix1", "camera_matrix_1", "camera_matrix_left", "K_left", "cam1K"),
    "D1": ("D1", "distCoeffs1", "dist_coeffs_1", "distortion_coefficients_left", "D_left", "cam1D"),
    "K2": ("M2", "K2", "cameraMatrix2", "camera_matrix_2", "camera_matrix_right", "K_right", "cam2K"),
    "D2": ("D2", "distCoeffs2", "dist_coeffs_2", "distortion_coefficients_right", "D_right", "cam2D"),
    "R": ("R", "rotation", "rotation_matrix"),
    "T": ("T", "t", "translation", "translation_vector"),
}
_SIZES = ("S", "size", "image_size", "imageSize")


@dataclass(frozen=True)
class Lens:
    """A pinhole with OpenCV's rational and thin-prism distortion."""

    matrix: np.ndarray
    """(3, 3) float64: fx, skew (0), cx; fy, cy."""
    distortion: np.ndarray
    """(12,) float64: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4."""

    def packed(self) -> np.ndarray:
        """(16,) float64: fx, fy, cx, cy and the distortion, as the kernels take it."""
        k = self.matrix
        return np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2], *self.distortion])


@dataclass(frozen=True)
class StereoCalibration:
    """Two cameras that look at the same thing. The frame of all results is the left camera's (x right, y down, z forward)."""

    left: Lens
    right: Lens
    rotation: np.ndarray
    """(3, 3) float64: x_right = rotation x_left + translation."""
    translation: np.ndarray
    """(3,) float64 in `unit`."""
    size: tuple[int, int] | None
    """Width and height of the images it was made with; None where the file does not say."""
    unit: str | None = None
    source: str | None = None
    extras: dict = field(default_factory=dict)
    """What calibrating found: reprojection error, uncertainties, boards used."""

    @property
    def baseline(self) -> float:
        return float(np.linalg.norm(self.translation))

    def to_unit(self, unit: str) -> StereoCalibration:
        """The same pair with lengths in another unit."""
        from dataclasses import replace

        if self.unit is None:
            raise UserError(f"{self.source or 'the calibration'} has no unit to convert from; give --unit")
        return replace(self, translation=self.translation * conversion(self.unit, unit), unit=unit)

    def cameras(self):
        """Both as `render.cameras.Cameras` in the left camera's frame, with pixel centres at +0.5.

        The unit is the calibration's. Raises `UserError` where there is no image size.
        """
        from ....render.cameras import Cameras  # torch

        if self.size is None:
            raise UserError(f"{self.source or 'the calibration'} does not say the size of its images")
        params = np.stack([_full_opencv(lens) for lens in (self.left, self.right)])
        models = tuple("FULL_OPENCV" for _ in range(2))
        if any(lens.distortion[8:].any() for lens in (self.left, self.right)):
            raise UserError(
                "lenses with thin-prism terms (s1 to s4) have no counterpart among the camera models"
            )
        pose = np.eye(4)
        pose[:3, :3] = self.rotation.T
        pose[:3, 3] = -self.rotation.T @ self.translation
        return Cameras(models, params, [list(self.size)] * 2, np.stack([np.eye(4), pose]))


def read_calibration(
    *paths: str
    | os.PathLike,  # one file, or several that complete each other (intrinsic.yml, extrinsic.yml); or a folder of them
    unit: str | None = None,  # of the translation; None: what the file says, if it does
) -> StereoCalibration:
    """Reads OpenCV's YAML, XML or JSON.

    Raises `UserError`, naming file and entry, for what is missing, not finite, not a rotation, or beyond the lens model.
    """
    files = _files(paths)
    entries: dict[str, np.ndarray] = {}
    for path in files:
        for name, value in _entries(path).items():
            if name in entries and not np.array_equal(entries[name], value):
                raise UserError(
                    f"{path}: {name} differs from the one in another of the files; give those of one calibration"
                )
            entries[name] = value
    where = ", ".join(str(path) for path in files)

    def matrix(key: str, shape: tuple[int, ...]) -> np.ndarray:
        for name in _NAMES[key]:
            if name in entries:
                value = entries[name]
                if value.size != int(np.prod(shape)) and not (key == "R" and value.size == 3):
                    raise UserError(f"{where}: {name} is {value.shape}; expected {shape}")
                return value
        raise UserError(
            f"{where}: no {' or '.join(_NAMES[key][:3])}; the calibration needs both lenses (M1, D1, M2, D2) and R, T"
        )

    lenses = [
        Lens(_camera_matrix(matrix(k, (3, 3)), where, k), _distortion(entries, d, where))
        for k, d in (("K1", "D1"), ("K2", "D2"))
    ]
    rotation = matrix("R", (3, 3))
    if rotation.size == 3:
        import cv2

        rotation = cv2.Rodrigues(rotation.reshape(3, 1))[0]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > 1e-3 or np.linalg.det(rotation) < 0:
        raise UserError(
            f"{where}: R is not a rotation (R R^T is off by {error:.3g}, determinant {np.linalg.det(rotation):.6g})"
        )
    u, _, vt = np.linalg.svd(rotation)
    translation = matrix("T", (3, 1)).reshape(3)
    if not np.linalg.norm(translation) > 0:
        raise UserError(f"{where}: T is zero: both cameras at one place see no depth")
    if unit is None and "unit" in entries:
        unit = str(entries["unit"])
    return StereoCalibration(*lenses, u @ vt, translation, _size(entries), parse_unit(unit), where)


def write_calibration(path: str | os.PathLike, calibration: StereoCalibration) -> None:
    """Writes M1, D1, M2, D2, R, T, S and `unit` as OpenCV YAML or XML, by the name's ending, whole or not at all."""
    import cv2

    if Path(path).suffix.lower() not in (".yml", ".yaml", ".xml"):
        raise UserError(f"{path}: a calibration is written as .yml, .yaml or .xml")
    with atomic_path(path) as temporary:
        storage = cv2.FileStorage(str(temporary), cv2.FILE_STORAGE_WRITE)
        for i, lens in ((1, calibration.left), (2, calibration.right)):
            storage.write(f"M{i}", np.ascontiguousarray(lens.matrix))
            coefficients = lens.distortion if lens.distortion[8:].any() else lens.distortion[:8]
            storage.write(f"D{i}", np.ascontiguousarray(coefficients[None]))
        storage.write("R", np.ascontiguousarray(calibration.rotation))
        storage.write("T", np.ascontiguousarray(calibration.translation[:, None]))
        if calibration.size:
            storage.write("S", np.array(calibration.size, np.float64)[:, None])
        if calibration.unit:
            storage.write("unit", calibration.unit)
        storage.release()


def _files(paths: tuple) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in (".yml", ".yaml", ".xml"))
            if not found:
                raise UserError(
                    f"{path}: holds no calibration (.yml, .yaml, .xml); give one with --calibration"
                )
            files += found
        else:
            files.append(path)
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such calibration file")
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"{path}: {path.stat().st_size >> 20} MB is no calibration file")
    return files


def _entries(path: Path) -> dict[str, np.ndarray]:
    """All numeric entries at the top of the file."""
    import cv2

    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        if not storage.isOpened():
            raise UserError(f"{path}: not an OpenCV file that can be read")
        root = storage.root()
        entries: dict[str, np.ndarray] = {}
        for name in root.keys() if root.isMap() else ():
            node = root.getNode(name)
            if node.isMap():
                value = node.mat()
            elif node.isInt() or node.isReal():
                value = np.array(node.real())
            elif node.isSeq():
                numbers = [node.at(i) for i in range(min(node.size(), 64))]
                if not all(n.isInt() or n.isReal() for n in numbers):
                    continue
                value = np.array([n.real() for n in numbers])
            elif name == "unit" and node.isString():
                entries["unit"] = np.array(node.string())
                continue
            else:
                continue
            if value is None or value.dtype.kind not in "fiu":
                continue
            if value.size > 4096 or not np.isfinite(value).all():
                raise UserError(f"{path}: {name} holds numbers that are not finite, or too many")
            entries[name] = value.astype(np.float64)
        storage.release()
    except (cv2.error, SystemError, UnicodeDecodeError) as error:
        message = str(getattr(error, "err", "") or error).splitlines()
        raise UserError(
            f"{path}: not an OpenCV file that can be read ({message[0] if message else 'empty'})"
        ) from error
    return entries


def _camera_matrix(value: np.ndarray, where: str, name: str) -> np.ndarray:
    value = value.reshape(3, 3)
    fx, fy = value[0, 0], value[1, 1]
    if not (fx > 0 and fy > 0) or abs(value[2, 2] - 1) > 1e-9 or value[1, 0] or value[2, :2].any():
        raise UserError(
            f"{where}: {name} is not a camera matrix (fx {fx:g}, fy {fy:g}, last row {value[2].tolist()})"
        )
    if abs(value[0, 1]) > 1e-9:
        raise UserError(f"{where}: {name} has skew {value[0, 1]:g}, which is not supported")
    return value


def _distortion(entries: dict, key: str, where: str) -> np.ndarray:
    for name in _NAMES[key]:
        if name in entries:
            value = entries[name].reshape(-1)
            break
    else:
        raise UserError(
            f"{where}: no {' or '.join(_NAMES[key][:2])}; write zeros for a lens without distortion"
        )
    if len(value) > 12 and value[12:].any():
        raise UserError(f"{where}: {name} has a tilted sensor (tau), which is not supported")
    if len(value) not in (4, 5, 8, 12, 14):
        raise UserError(f"{where}: {name} has {len(value)} coefficients; OpenCV knows 4, 5, 8, 12 or 14")
    return np.pad(value[:12], (0, max(0, 12 - len(value))))


def _size(entries: dict) -> tuple[int, int] | None:
    for name in _SIZES:
        if name in entries and entries[name].size == 2:
            width, height = entries[name].reshape(2)
            return int(width), int(height)
    if "image_width" in entries and "image_height" in entries:
        return int(entries["image_width"]), int(entries["image_height"])
    return None


def _full_opencv(lens: Lens) -> np.ndarray:
    """(12,) in COLMAP's order fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6, principal point moved to our pixel centres."""
    k = lens.matrix
    return np.array([k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5, *lens.distortion[:8]])
