"""Stereo calibration from images of a board, through OpenCV, with what is needed to believe it.

Corners: `cv2.findChessboardCornersSB` (Duda and Frese, "Accurate detection and localization of checkerboard corners for calibration",
BMVC 2018). Intrinsics and pose: Zhang's method and bundle adjustment, `cv2.calibrateCamera` and `cv2.stereoCalibrate`. The
uncertainty is that of the adjusted parameters, from refitting random selections of the views (bootstrap), so that it
also holds what a board that is not quite flat does, as long as the views show it differently.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..errors import NotMeasurable
from ..result import Measurement
from .calibration import Lens, StereoCalibration
from .image_set import list_images, read_image_set

__all__ = ["Board", "board_corners", "calibrate", "calibrate_corners", "parse_board"]

_LEAST_VIEWS = 4
_POOR_VIEW = 3.0  # times the median reprojection error, from which a view is left out
_POOR_ERROR = 1.0  # pixels


@dataclass(frozen=True)
class Board:
    """A chessboard by its inner corners."""

    columns: int
    rows: int
    square: float
    """Side of a square, in `unit`."""
    unit: str

    def points(self) -> np.ndarray:
        """(rows * columns, 3) float64 in `unit`: the corners, row by row, in the board's plane."""
        grid = np.mgrid[: self.columns, : self.rows].T.reshape(-1, 2) * self.square
        return np.column_stack([grid, np.zeros(len(grid))])


def parse_board(text: str, unit: str | None = None) -> Board:
    """A board from "9x7:25mm": inner corners along and across, and the side of a square. Raises `UserError`."""
    from ..units import parse_unit

    found = re.fullmatch(
        r"\s*(\d{1,3})\s*[xX]\s*(\d{1,3})\s*:\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*([A-Za-zµμ\"]*)\s*", text
    )
    if not found:
        raise UserError(f'board {text!r}: write inner corners and square size like "9x7:25mm"')
    columns, rows = int(found[1]), int(found[2])
    try:
        square = float(found[3])
    except ValueError:
        square = 0.0
    unit = parse_unit(found[4] or unit)
    if unit is None:
        raise UserError(f'board {text!r}: no unit of the square size; write "9x7:25mm", or give --unit')
    if min(columns, rows) < 3 or not square > 0:
        raise UserError(f"board {text!r}: at least 3 x 3 inner corners and a square larger than 0 are needed")
    return Board(columns, rows, square, unit)


def board_corners(image: np.ndarray, board: Board) -> np.ndarray | None:
    """(rows * columns, 2) pixel positions of the inner corners, centres at whole numbers; None where the board is not whole in view."""
    import cv2

    if image.dtype != np.uint8:
        image = (image / max(1, int(image.max()) // 256 + 1)).astype(np.uint8)
    flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    ok, corners = cv2.findChessboardCornersSB(image, (board.columns, board.rows), flags=flags)
    return corners.reshape(-1, 2).astype(np.float64) if ok else None


def calibrate(
    folder: str | os.PathLike,  # with L and R, one image of the board per view and camera, of the same number
    board: Board | str,
    *,
    unit: str | None = None,
    seed: int = 0,
) -> tuple[StereoCalibration, Measurement]:
    """Calibrates a pair from a folder of board images.

    Raises `UserError` for images that are missing or of several sizes, `NotMeasurable` where the board is found in too few views.
    """
    board = parse_board(board, unit) if isinstance(board, str) else board
    folder = Path(folder)
    sides = []
    for names in (("L", "left", "cam0"), ("R", "right", "cam1")):
        side = next((folder / n for n in names if (folder / n).is_dir()), None)
        if side is None:
            raise UserError(f"{folder}: holds no folder {' or '.join(names)} with that camera's board images")
        sides.append(list_images(side))
    if len(sides[0]) != len(sides[1]):
        raise UserError(
            f"{folder}: {len(sides[0])} left and {len(sides[1])} right board images; both cameras take every view"
        )
    sets = [read_image_set(side) for side in sides]
    shapes = [s.images.shape[1:] for s in sets]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{folder}: left images are {shapes[0][::-1]}, right ones {shapes[1][::-1]}; they must be alike"
        )
    corners, views, missing = [], [], []
    for i, (left, right) in enumerate(zip(sets[0].images, sets[1].images)):
        pair = board_corners(left, board), board_corners(right, board)
        if pair[0] is None or pair[1] is None:
            missing.append(sides[0][i].name)
            continue
        corners.append(_same_order(*pair))
        views.append(sides[0][i].name)
    if len(corners) < _LEAST_VIEWS:
        raise NotMeasurable(
            f"{folder}: a board of {board.columns} x {board.rows} inner corners is whole in {len(corners)} of {len(sides[0])} views, at least "
            f"{_LEAST_VIEWS} are needed (not in {', '.join(missing[:5])}): count inner corners, not squares; no corner may be cut off or glare"
        )
    left, right = np.array([c[0] for c in corners]), np.array([c[1] for c in corners])
    notes = [f"the board was not found in {len(missing)} views: {', '.join(missing[:8])}"] if missing else []
    calibration, result = calibrate_corners(
        left, right, board, shapes[0][::-1], views=views, rng=np.random.default_rng(seed)
    )
    result.warnings[:0] = notes
    result.input = {"path": str(folder), "sha256": None}
    result.seed = seed
    return calibration, result


def calibrate_corners(
    left: np.ndarray,  # (views, corners, 2)
    right: np.ndarray,
    board: Board,
    size: tuple[int, int],
    *,
    views: list[str] | None = None,
    rng: np.random.Generator,
    resamples: int = 12,
) -> tuple[StereoCalibration, Measurement]:
    """Calibrates from corners that were found. Views whose reprojection error is far above the others' are left out, with a warning."""
    names = views or [str(i) for i in range(len(left))]
    every = np.arange(len(left))
    fitted, error, errors = _fit(left, right, board, size)
    poor = errors > max(_POOR_VIEW * float(np.median(errors)), 0.05)
    warnings = []
    if poor.any() and (~poor).sum() >= _LEAST_VIEWS:
        warnings.append(
            f"{int(poor.sum())} views left out, their error is over {_POOR_VIEW:g} times the median: "
            + ", ".join(f"{names[i]} ({errors[i]:.2f} px)" for i in every[poor][:8])
        )
        left, right, names = left[~poor], right[~poor], [n for n, p in zip(names, poor) if not p]
        fitted, error, errors = _fit(left, right, board, size)
    if error > _POOR_ERROR:
        warnings.append(
            f"reprojection error {error:.2f} px is large (0.05 to 0.3 is usual): is the board flat, sharp and {board.square:g} {board.unit} a square?"
        )
    covered = _coverage(left, size), _coverage(right, size)
    if min(covered) < 0.5:
        warnings.append(
            f"corners cover only {100 * covered[0]:.0f} % (left) and {100 * covered[1]:.0f} % (right) of the image; add views towards its edges"
        )
    samples = []
    for _ in range(10 * resamples):  # selections with too few different views are drawn again
        chosen = rng.integers(0, len(left), len(left))
        if len(np.unique(chosen)) >= _LEAST_VIEWS - 1:
            samples.append(_vector(_fit(left[chosen], right[chosen], board, size, start=fitted)[0]))
        if len(samples) == resamples:
            break
    vector = _vector(fitted)
    spread = np.array(samples) - vector
    covariance = spread.T @ spread / max(len(samples), 1)
    tilt = _tilt(fitted, board, left)
    if tilt < 15:
        warnings.append(
            f"the board was tilted by at most {tilt:.0f} degrees against the cameras; tilt it by 20 to 45, or focal length and distance are confused"
        )
    parameters = {
        "fx_left": vector[0], "fy_left": vector[1], "cx_left": vector[2], "cy_left": vector[3],
        "fx_right": vector[4], "fy_right": vector[5], "cx_right": vector[6], "cy_right": vector[7],
        "baseline": vector[8], "convergence_deg": vector[9], "reprojection_error_px": error, "views": len(left),
    }  # fmt: skip
    result = Measurement(
        kind="stereo-calibration",
        unit=board.unit,
        parameters=parameters,
        covariance=covariance,
        covariance_names=list(parameters)[:10],
        rms=error,
        n_used=int(left.shape[0] * left.shape[1] * 2),
        n_total=int(len(every) * left.shape[1] * 2),
        warnings=warnings,
        extras={
            "view_errors_px": {n: float(e) for n, e in zip(names, errors)},
            "coverage": list(covered),
            "largest_tilt_deg": tilt,
            "board": {"columns": board.columns, "rows": board.rows, "square": board.square},
        },
    )
    rotation, translation = fitted[4], fitted[5].reshape(3)
    calibration = StereoCalibration(
        Lens(fitted[0], np.pad(fitted[1].reshape(-1)[:5], (0, 7))),
        Lens(fitted[2], np.pad(fitted[3].reshape(-1)[:5], (0, 7))),
        rotation,
        translation,
        tuple(size),
        board.unit,
        "calibrated from a board",
        {"reprojection_error_px": error},
    )
    return calibration, result


def _fit(left, right, board, size, start=None):
    """(K1, D1, K2, D2, R, T), overall and per-view reprojection error, pixels."""
    import cv2

    objects = [board.points().astype(np.float32)] * len(left)
    first = [c.astype(np.float32)[:, None] for c in left]
    second = [c.astype(np.float32)[:, None] for c in right]
    try:
        if start is None:
            _, k1, d1, _, _ = cv2.calibrateCamera(objects, first, size, None, None)
            _, k2, d2, _, _ = cv2.calibrateCamera(objects, second, size, None, None)
        else:
            k1, d1, k2, d2 = (np.array(a) for a in start[:4])
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-9)
        result = cv2.stereoCalibrateExtended(
            objects, first, second, k1, d1, k2, d2, size, np.eye(3), np.zeros((3, 1)),
            flags=cv2.CALIB_USE_INTRINSIC_GUESS, criteria=criteria,
        )  # fmt: skip
    except cv2.error as error:
        raise NotMeasurable(
            f"the corners do not determine the cameras ({error.err}): add views at other tilts"
        ) from error
    error, k1, d1, k2, d2, rotation, translation = result[:7]
    per_view = np.asarray(result[-1]).reshape(len(left), -1)
    return (
        (k1, d1, k2, d2, rotation, translation),
        float(error),
        np.sqrt((per_view**2).mean(axis=1)),
    )


def _vector(fitted) -> np.ndarray:
    """(10,) the parameters that are reported."""
    k1, _, k2, _, rotation, translation = fitted
    angle = np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    return np.array(
        [
            *(k[i] for k in (k1, k2) for i in ((0, 0), (1, 1), (0, 2), (1, 2))),
            np.linalg.norm(translation),
            angle,
        ]
    )


def _same_order(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A board looks the same turned by half a turn: both cameras are made to start at the corner that lies further up and left."""
    across = left[-1] - left[0], right[-1] - right[0]
    return left, right[::-1] if across[0] @ across[1] < 0 else right


def _coverage(corners: np.ndarray, size: tuple[int, int]) -> float:
    """Part of an 8 x 8 grid over the image in which there is a corner."""
    cells = np.clip((corners.reshape(-1, 2) / np.array(size) * 8).astype(int), 0, 7)
    return len(np.unique(cells[:, 0] * 8 + cells[:, 1])) / 64


def _tilt(fitted, board: Board, corners: np.ndarray) -> float:
    """Largest angle between the board's normal and the left camera's axis over the views, degrees."""
    import cv2

    largest = 0.0
    for view in corners:
        ok, turn, _ = cv2.solvePnP(board.points(), view, fitted[0], fitted[1])
        if ok:
            normal = cv2.Rodrigues(turn)[0][:, 2]
            largest = max(largest, float(np.degrees(np.arccos(min(1.0, abs(normal[2]))))))
    return largest
