"""FreiHAND (Zimmermann et al. 2019): training_{K,xyz,mano,verts}.json and evaluation_*.json beside folders of pictures.

Right hands, metres, camera frame, joints in our order of 21. A row of *_mano.json is [48 pose | 10 shape | 2 root pixel |
1 scale]; the pose is relative to MANO's mean (frankmocap issue 136), the root's place follows from xyz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .annotation import HandSample, HandSet, ManoParameters
from .json_file import array_of, read_json

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "freihand"
LOOKED_FOR = "training_K.json or evaluation_K.json (FreiHAND)"


def recognise(folder: Path) -> bool:
    return any((folder / f"{split}_K.json").is_file() for split in ("training", "evaluation"))


def read(folder: Path) -> HandSet:
    """Both splits, as far as they are there. Joint 0 of `joints` is where MANO's wrist joint has to be."""
    rows: list[tuple[str, int]] = []
    tables: dict[str, dict[str, list]] = {}
    for split in ("training", "evaluation"):
        if not (folder / f"{split}_K.json").is_file():
            continue
        table = {"K": _rows(folder / f"{split}_K.json")}
        for key in ("xyz", "mano", "verts"):
            if (folder / f"{split}_{key}.json").is_file():
                table[key] = _rows(folder / f"{split}_{key}.json")
                if len(table[key]) != len(table["K"]):
                    raise UserError(
                        f"{folder / f'{split}_{key}.json'}: expected {len(table['K'])} rows as in {split}_K.json, "
                        f"found {len(table[key])}"
                    )
        tables[split] = table
        rows += [(split, i) for i in range(len(table["K"]))]

    def sample(index: int) -> HandSample:
        split, i = rows[index]
        table = tables[split]
        where = f"{folder / split}_{{}}.json row {i}"
        intrinsics = array_of(table["K"][i], (3, 3), where.format("K"))
        joints = array_of(table["xyz"][i], (21, 3), where.format("xyz")) if "xyz" in table else None
        pixels = None
        if joints is not None:
            projected = joints @ intrinsics.T
            pixels = projected[:, :2] / projected[:, 2:]
        picture = folder / split / "rgb" / f"{i:08d}.jpg"
        mask = folder / split / "mask" / f"{i:08d}.jpg"
        return HandSample(
            name=f"{split}/{i:08d}",
            side="right",
            image=picture if picture.is_file() else None,
            mask=mask if mask.is_file() else None,
            joints=joints,
            pixels=pixels,
            intrinsics=intrinsics,
            vertices=array_of(table["verts"][i], (778, 3), where.format("verts"))
            if "verts" in table
            else None,
            mano=_mano(table["mano"][i], where.format("mano")) if "mano" in table else None,
            frame=f"{split}/{i:08d}",
        )

    return HandSet(folder, FORMAT, [f"{split}/{i:08d}" for split, i in rows], sample)


def _rows(path: Path) -> list:
    value = read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: expected a list with one row per image, found {type(value).__name__}")
    return value


def _mano(row: object, where: str) -> ManoParameters:
    values = array_of(row, (1, 61), where)[0]
    # the root's depth is not in the row: the translation that puts the wrist on xyz[0] needs the model's rest wrist
    return ManoParameters(
        pose=values[:48],
        shape=values[48:58],
        translation=np.zeros(3),
        pca=False,
        mean_included=False,
        to_sample=np.eye(4),
        mirrored_left_shape=None,
    )
