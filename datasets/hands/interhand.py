"""InterHand2.6M (Moon et al. 2020): InterHand2.6M_SPLIT_{data,camera,joint_3d,MANO_NeuralAnnot}.json.

World millimetres; camera = camrot (world - campos). Joints go from tip to base, thumb to pinky, the wrist last; the left hand
follows the right (+21). MANO's pose is relative to its mean and its vertices are in world metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .annotation import HandSample, HandSet, ManoParameters
from .json_file import array_of, read_json

__all__ = ["FORMAT", "LOOKED_FOR", "ORDER", "read", "recognise"]

FORMAT = "interhand"
LOOKED_FOR = "InterHand2.6M_*_data.json in the folder, its annotations/ or a split of it (InterHand2.6M)"
ORDER = (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16)
"""InterHand's joint at each place of our order of 21."""


def recognise(folder: Path) -> bool:
    return bool(_splits(folder))


def _splits(folder: Path) -> list[Path]:
    """The *_data.json files, wherever the releases put them."""
    found: list[Path] = []
    for pattern in (
        "InterHand2.6M_*_data.json",
        "*/InterHand2.6M_*_data.json",
        "annotations/*/InterHand2.6M_*_data.json",
    ):
        found += [p for p in sorted(folder.glob(pattern)) if p not in found]
    return found


def read(folder: Path) -> HandSet:
    """One sample per hand that an image's `hand_type` names."""
    rows, tables = [], {}
    for data in _splits(folder):
        stem = data.name.removesuffix("_data.json")
        split = stem.removeprefix("InterHand2.6M_")
        table = {key: data.with_name(f"{stem}_{key}.json") for key in ("camera", "joint_3d")}
        tables[split] = {key: _dict(path) for key, path in table.items()}
        mano = data.with_name(f"{stem}_MANO_NeuralAnnot.json")
        tables[split]["mano"] = _dict(mano) if mano.is_file() else {}
        for image in _list(_dict(data), "images", data):
            name = f"{split}/{image.get('file_name')}"
            instant = (str(image.get("capture")), str(image.get("frame_idx")))
            entry = _get(tables[split]["joint_3d"], instant, table["joint_3d"])
            sides = {"right": ("right",), "left": ("left",), "interacting": ("right", "left")}.get(
                entry.get("hand_type")
            )
            if sides is None:
                raise UserError(
                    f"{table['joint_3d']}: capture {instant[0]} frame {instant[1]}: hand_type: expected right, left or "
                    f"interacting, found {entry.get('hand_type')!r}"
                )
            rows += [(split, image, instant, side, name) for side in sides]

    def sample(index: int) -> HandSample:
        split, image, instant, side, name = rows[index]
        where = f"{folder}: {name}"
        camera, key = tables[split]["camera"].get(instant[0], {}), str(image.get("camera"))
        rotation = array_of(_part(camera, "camrot", key, where), (3, 3), f"{where}: camrot")
        centre = array_of(_part(camera, "campos", key, where), (3,), f"{where}: campos") / 1000
        focal = array_of(_part(camera, "focal", key, where), (2,), f"{where}: focal")
        middle = array_of(_part(camera, "princpt", key, where), (2,), f"{where}: princpt")
        entry = tables[split]["joint_3d"][instant[0]][instant[1]]
        start = 0 if side == "right" else 21
        world = array_of(entry.get("world_coord"), (42, 3), f"{where}: world_coord")[start : start + 21]
        valid = array_of(np.reshape(entry.get("joint_valid"), -1), (42,), f"{where}: joint_valid")[
            start : start + 21
        ]
        joints = (world / 1000 - centre) @ rotation.T
        joints[valid == 0] = np.nan
        joints = joints[list(ORDER)]
        to_world = np.eye(4)
        to_world[:3, :3], to_world[:3, 3] = rotation.T, centre
        picture = folder / "images" / split / str(image.get("file_name"))
        parameters = (tables[split]["mano"].get(instant[0], {}).get(instant[1]) or {}).get(side)
        return HandSample(
            name=name,
            side=side,
            image=picture if picture.is_file() else None,
            joints=joints,
            pixels=joints[:, :2] / joints[:, 2:] * focal + middle,
            intrinsics=np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]]),
            camera_to_world=to_world,
            mano=None if parameters is None else _mano(parameters, np.linalg.inv(to_world), where),
            frame="/".join((split, *instant)),
        )

    return HandSet(folder, FORMAT, [f"{row[4]} {row[3]}" for row in rows], sample)


def _mano(value: dict, to_camera: np.ndarray, where: str) -> ManoParameters:
    return ManoParameters(
        pose=array_of(value.get("pose"), (48,), f"{where}: mano pose"),
        shape=array_of(value.get("shape"), (10,), f"{where}: mano shape"),
        translation=array_of(value.get("trans"), (3,), f"{where}: mano trans"),
        pca=False,
        mean_included=False,
        to_sample=to_camera,
        mirrored_left_shape=True,
    )


def _dict(path: Path) -> dict:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected an object, found {type(value).__name__}")
    return value


def _list(value: dict, key: str, path: Path) -> list:
    if not isinstance(value.get(key), list):
        raise UserError(
            f"{path}: expected a list under {key}, found {', '.join(list(value)[:8]) or 'nothing'}"
        )
    return value[key]


def _get(table: dict, instant: tuple[str, str], path: Path) -> dict:
    found = table.get(instant[0], {}).get(instant[1])
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: expected capture {instant[0]}, frame {instant[1]}, which *_data.json names; not found"
        )
    return found


def _part(camera: dict, key: str, name: str, where: str) -> object:
    values = camera.get(key)
    if not isinstance(values, dict) or name not in values:
        raise UserError(f"{where}: expected {key} of camera {name} in *_camera.json, not found")
    return values[name]
