"""The camera models by name, and the one table of lens coefficients they are all rewritten into.

Names, parameter orders and formulae are COLMAP's (`src/colmap/sensor/models.h`). Every model but FOV and
EQUIRECTANGULAR is a focal length per axis and a principal point around one distortion

    d(u) = u * (1 + k1 s + k2 s^2 + k3 s^3 + k4 s^4) / (1 + k5 s + k6 s^2 + k7 s^3)
           + tangential(p1, p2) + prism(sx, sy)

with s = |u|^2, where u is the point on the plane z = 1 (perspective) or the angle from the axis times the
direction around it (fisheye). So a batch of mixed models needs a few closed forms, not one per name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = [
    "CAMERA_MODELS",
    "COLMAP_MODEL_IDS",
    "EQUIRECTANGULAR",
    "FISHEYE",
    "FOV",
    "LENS_COLUMNS",
    "PARAMETER_NAMES",
    "PERSPECTIVE",
    "PINHOLE",
    "check_model",
    "lens_kinds",
    "lens_table",
    "scaled_parameters",
]

PARAMETER_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(order.split())
    for name, order in {
        "SIMPLE_PINHOLE": "f cx cy",
        "PINHOLE": "fx fy cx cy",
        "SIMPLE_RADIAL": "f cx cy k1",
        "RADIAL": "f cx cy k1 k2",
        "OPENCV": "fx fy cx cy k1 k2 p1 p2",
        "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
        "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
        "FOV": "fx fy cx cy omega",
        "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
        "RADIAL_FISHEYE": "f cx cy k1 k2",
        "THIN_PRISM_FISHEYE": "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
        "SIMPLE_FISHEYE": "f cx cy",
        "FISHEYE": "fx fy cx cy",
        "EQUIRECTANGULAR": "",
    }.items()
}
"""Each model's parameters in COLMAP's order; lengths in pixels, omega in radians."""

CAMERA_MODELS: dict[str, int] = {name: len(order) for name, order in PARAMETER_NAMES.items()}
"""Model name -> number of parameters. EQUIRECTANGULAR needs none: its image is the whole sphere."""

COLMAP_MODEL_IDS: dict[int, str] = {
    **dict(enumerate(list(CAMERA_MODELS)[:11])),
    14: "SIMPLE_FISHEYE",
    15: "FISHEYE",
    17: "EQUIRECTANGULAR",
}
"""COLMAP's number in `cameras.bin` -> model name. COLMAP stores width and height as EQUIRECTANGULAR's
parameters.
"""

LENS_COLUMNS = (
    "fx",
    "fy",
    "cx",
    "cy",
    "k1",
    "k2",
    "k3",
    "k4",
    "k5",
    "k6",
    "k7",
    "p1",
    "p2",
    "sx",
    "sy",
    "omega",
)
"""Columns of `lens_table`: k1..k4 the numerator of the radial factor, k5..k7 its denominator."""

# Which closed form projects a lens.
PINHOLE, PERSPECTIVE, FISHEYE, FOV, EQUIRECTANGULAR = range(5)

_KIND = {
    **dict.fromkeys(("SIMPLE_PINHOLE", "PINHOLE"), PINHOLE),
    **dict.fromkeys(("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"), PERSPECTIVE),
    "FOV": FOV,
    "EQUIRECTANGULAR": EQUIRECTANGULAR,
}

# The model that says the same with a focal length per axis, for images stretched differently along their
# axes.
_TWO_FOCAL = {
    "SIMPLE_PINHOLE": "PINHOLE",
    "SIMPLE_RADIAL": "OPENCV",
    "RADIAL": "OPENCV",
    "SIMPLE_RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "SIMPLE_FISHEYE": "FISHEYE",
}

_ZERO = 12  # position of the column of zeros that `lens_table` appends to the 12 parameters


def _sources(model: str) -> list[int]:
    order = PARAMETER_NAMES[model]
    rename = {"fx": "f", "fy": "f"} if "f" in order else {}
    rename |= {"sx": "sx1", "sy": "sy1"}
    if model == "FULL_OPENCV":  # its k4..k6 are the denominator, which the table calls k5..k7
        rename |= {"k4": "", "k5": "k4", "k6": "k5", "k7": "k6"}
    wanted = (rename.get(column, column) for column in LENS_COLUMNS)
    return [order.index(name) if name in order else _ZERO for name in wanted]


_SOURCES = {model: _sources(model) for model in CAMERA_MODELS}


def check_model(name: str, where: str) -> None:
    """Raises UserError, listing the known models, if `name` is none of them."""
    if name not in CAMERA_MODELS:
        known = ", ".join(CAMERA_MODELS)
        raise UserError(f'{where}: unknown camera model "{name}"; known models: {known}')


def lens_table(
    models: Sequence[str],
    params: Tensor,  # (n, 12) float64, padded with zeros
    sizes: Tensor,  # (n, 2) width, height
) -> Tensor:  # (n, 16)
    """The coefficients of each lens in the columns `LENS_COLUMNS`. Differentiable with respect to
    `params`.
    """
    rows = torch.tensor([_SOURCES[model] for model in models], dtype=torch.int64, device=params.device)
    padded = torch.cat([params, params.new_zeros(len(params), 1)], dim=1)
    table = padded.gather(1, rows.reshape(-1, len(LENS_COLUMNS)))
    panorama = torch.tensor([model == "EQUIRECTANGULAR" for model in models], device=params.device)
    if panorama.any():
        # pixels per radian of longitude and latitude, and the pixel that looks along z
        turn = params.new_tensor([0.5 / math.pi, 1 / math.pi, 0.5, 0.5])
        table[panorama, :4] = sizes.to(params).repeat(1, 2)[panorama] * turn
    return table


def lens_kinds(models: Sequence[str], table: Tensor) -> list[int]:
    """PINHOLE, PERSPECTIVE, FISHEYE, FOV or EQUIRECTANGULAR for each lens.

    A perspective lens whose coefficients are all zero counts as a pinhole, unless gradients with respect to
    them are wanted.
    """
    kinds = [_KIND.get(model, FISHEYE) for model in models]
    if PERSPECTIVE in kinds and not table.requires_grad:
        distorted = (table[:, 4:15] != 0).any(1).tolist()
        kinds = [
            PINHOLE if k == PERSPECTIVE and not bent else k for k, bent in zip(kinds, distorted, strict=True)
        ]
    return kinds


def scaled_parameters(
    model: str,
    params: Tensor,  # (12,)
    scale_x: float,
    scale_y: float,
) -> tuple[str, Tensor]:
    """The model and parameters (12,) of the same lens on an image stretched by `scale_x` and `scale_y`.

    The origin of pixel coordinates is the image's corner, so focal length and principal point scale exactly.
    A model with a single focal length becomes its sibling with two where the scales differ.
    """
    if model == "EQUIRECTANGULAR":
        return model, params
    if scale_x != scale_y and model in _TWO_FOCAL:
        wide = _TWO_FOCAL[model]
        order = ["f" if name in ("fx", "fy") else name for name in PARAMETER_NAMES[wide]]
        known = PARAMETER_NAMES[model]
        values = [params[known.index(name)] if name in known else params.new_zeros(()) for name in order]
        model, params = wide, torch.stack(values + [params.new_zeros(())] * (12 - len(values)))
    factor = {"f": scale_x, "fx": scale_x, "fy": scale_y, "cx": scale_x, "cy": scale_y}
    factors = [factor.get(name, 1.0) for name in PARAMETER_NAMES[model]]
    return model, params * params.new_tensor(factors + [1.0] * (12 - len(factors)))
