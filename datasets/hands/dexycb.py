"""DexYCB (Chao et al. 2021): SUBJECT/SEQUENCE/SERIAL/labels_NNNNNN.npz with meta.yml and a calibration folder.

`pose_m` is [3 global rotation | 45 PCA coefficients relative to MANO's mean | 3 translation] in the camera's frame; left hands were fitted
with the shape basis as shipped (dex-ycb-toolkit issue 28). Joints are in our order of 21; a hand that is out of view is all -1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from ..archive import NumberArchive
from .annotation import HandSample, HandSet, ManoParameters
from .json_file import array_of

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "dexycb"
LOOKED_FOR = "calibration/ beside SUBJECT/SEQUENCE/meta.yml (DexYCB)"
_LARGEST_YAML = 1 << 20


def recognise(folder: Path) -> bool:
    return (folder / "calibration").is_dir() and next(folder.glob("*/*/meta.yml"), None) is not None


def read(folder: Path) -> HandSet:
    """One sample per labelled picture of every camera; pictures without a visible hand have neither joints nor MANO."""
    rows: list[tuple[Path, dict]] = []
    for meta in sorted(folder.glob("*/*/meta.yml")):
        facts = _yaml(meta)
        for serial in _list(facts, "serials", meta):
            labels = sorted((meta.parent / str(serial)).glob("labels_*.npz"))
            rows += [(path, facts) for path in labels]
    if not rows:
        raise UserError(f"{folder}: no labels_*.npz in the folders of the cameras that meta.yml names")

    def sample(index: int) -> HandSample:
        path, facts = rows[index]
        serial, number = path.parent.name, path.stem.removeprefix("labels_")
        side = str(_list(facts, "mano_sides", path.parent.parent / "meta.yml")[0])
        if side not in ("right", "left"):
            raise UserError(
                f"{path.parent.parent / 'meta.yml'}: mano_sides: expected right or left, found {side!r}"
            )
        with NumberArchive(path) as archive:
            joints = archive.array("joint_3d", (1, 21, 3))[0]
            pixels = archive.array("joint_2d", (1, 21, 2))[0]
            pose = archive.array("pose_m", (1, 51))[0]
        absent = bool((joints == -1).all())
        picture = path.with_name(f"color_{number}.jpg")
        return HandSample(
            name=str(path.relative_to(folder).with_suffix("")),
            side=side,
            image=picture if picture.is_file() else None,
            joints=None if absent else joints,
            pixels=None if absent else pixels,
            intrinsics=_intrinsics(folder, serial),
            camera_to_world=_extrinsics(folder, str(facts.get("extrinsics")), serial),
            mano=None if absent else _mano(folder, str(_list(facts, "mano_calib", path)[0]), pose),
            frame=f"{path.parent.parent.relative_to(folder)}/{number}",
        )

    return HandSet(folder, FORMAT, [str(p.relative_to(folder).with_suffix("")) for p, _ in rows], sample)


def _mano(folder: Path, calibration: str, pose: np.ndarray) -> ManoParameters:
    file = folder / "calibration" / f"mano_{calibration}" / "mano.yml"
    return ManoParameters(
        pose=pose[:48],
        shape=array_of(_yaml(file).get("betas"), (10,), f"{file}: betas"),
        translation=pose[48:],
        pca=True,
        mean_included=False,
        to_sample=np.eye(4),
        mirrored_left_shape=False,
    )


def _intrinsics(folder: Path, serial: str) -> np.ndarray:
    file = folder / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
    colour = _yaml(file).get("color")
    if not isinstance(colour, dict):
        raise UserError(f"{file}: expected the key color with fx, fy, ppx, ppy")
    fx, fy, px, py = array_of(
        [colour.get(k) for k in ("fx", "fy", "ppx", "ppy")], (4,), f"{file}: color fx fy ppx ppy"
    )
    return np.array([[fx, 0, px], [0, fy, py], [0, 0, 1]])


def _extrinsics(folder: Path, name: str, serial: str) -> np.ndarray:
    file = folder / "calibration" / f"extrinsics_{name}" / "extrinsics.yml"
    table = _yaml(file).get("extrinsics")
    if not isinstance(table, dict) or serial not in table:
        raise UserError(f"{file}: expected camera {serial} under extrinsics")
    pose = np.eye(4)
    pose[:3] = array_of(table[serial], (12,), f"{file}: extrinsics {serial}").reshape(3, 4)
    return pose


def _yaml(path: Path) -> dict:
    yaml = require("yaml", "hands", "reading DexYCB")
    try:
        if path.stat().st_size > _LARGEST_YAML:
            raise UserError(f"{path}: larger than 1 MB")
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is not YAML ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected keys with values, found {type(value).__name__}")
    return {str(key): item for key, item in value.items()}


def _list(value: dict, key: str, path: Path) -> list:
    if not isinstance(value.get(key), list) or not value[key]:
        raise UserError(f"{path}: expected a list under {key}, found {', '.join(value) or 'nothing'}")
    return value[key]
