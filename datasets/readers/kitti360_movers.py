"""What moved in a KITTI-360 drive, as its annotations say.

Boxes of objects that move have a frame number (data_3d_bboxes/{train,train_full}/DRIVE.xml, `timestamp`; -1 for what stands). People and riders are
known by their class in data_2d_semantics/.../semantic, other movers by their instance, semantic * 1000 + number, which the clouds in
data_3d_semantics/.../dynamic list and the pictures in data_2d_semantics/.../instance show.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras
from ..image_file import Picture
from ..movers import AnyMask, BoxMask, NumberMask, grown
from .keyed_lines import numbers_of
from .kitti360_cloud import windows
from .ply_vertices import read_vertices

__all__ = ["Movers"]

PEOPLE = (24, 25)
"""Class numbers of person and rider."""
MARGIN = 0.3
"""Metres around a box: labels, scans and images are not of one moment."""


class Movers:
    """What is known of the movers of the frames `used` of a drive."""

    def __init__(self, root: Path, drive: str, used: list[int]) -> None:
        self._pictures = root / "data_2d_semantics" / "train" / drive
        self.boxes = _boxes(root, drive, set(used))
        """Frame number -> (k, 4, 4) cube [-1/2, 1/2]^3 to world."""
        found: set[int] = set()
        for _, _, file in windows(root, drive, "dynamic", used):
            vertices = read_vertices(file)
            if "instance" in vertices.dtype.names:
                found |= set(np.unique(vertices["instance"]).tolist())
        self.instances = found
        self.masked = 0

    def mask(self, camera: Cameras, folder: str, number: int) -> Picture | None:
        """Of an image's movers; None if it shows none."""
        parts: list[Picture] = []
        people = self._pictures / folder / "semantic" / f"{number:010d}.png"
        if people.is_file() and (shown := NumberMask(people, frozenset(PEOPLE))).any():
            parts.append(shown)
        moving = self._pictures / folder / "instance" / f"{number:010d}.png"
        by_instance = bool(self.instances) and moving.is_file()
        if by_instance and (shown := NumberMask(moving, frozenset(self.instances))).any():
            parts.append(shown)
        if (
            not by_instance and number in self.boxes
        ):  # pixels are known better than boxes, where they are known
            drawn = BoxMask(camera, self.boxes[number], f"{folder} {number}")
            if drawn.pixels().any():
                parts.append(drawn)
        self.masked += bool(parts)
        return None if not parts else parts[0] if len(parts) == 1 else AnyMask(tuple(parts))


def _boxes(root: Path, drive: str, used: set[int]) -> dict[int, np.ndarray]:
    """Boxes of movers at the frames `used`, with a margin."""
    file = next(
        (
            path
            for folder in ("train_full", "train")
            if (path := root / "data_3d_bboxes" / folder / f"{drive}.xml").is_file()
        ),
        None,
    )
    if file is None:
        return {}
    found = defaultdict(list)
    try:
        for _, node in ElementTree.iterparse(file):
            number = node.findtext("timestamp", "").strip()
            if node.find("transform") is None or not number:
                continue
            if number.isdigit() and int(number) in used:
                found[int(number)].append(_box(node, file))
            node.clear()
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: not readable as XML ({error}); copy it again") from error
    return {number: grown(np.stack(boxes), MARGIN) for number, boxes in found.items()}


def _box(node: ElementTree.Element, file: Path) -> np.ndarray:  # (4, 4)
    """Takes the cube to the smallest box along the object's own axes around its vertices."""
    where = f"{file}: object {node.findtext('index', node.tag).strip()}"
    affine = _matrix(node.find("transform"), 4, f"{where}: transform")
    corners = _matrix(node.find("vertices"), 3, f"{where}: vertices")
    low, high = corners.min(0), corners.max(0)
    local = np.eye(4)
    local[:3, :3] = np.diag(high - low)
    local[:3, 3] = (low + high) / 2
    return affine @ local


def _matrix(node: ElementTree.Element | None, columns: int, where: str) -> np.ndarray:
    """OpenCV's XML matrix."""
    if node is None:
        raise UserError(f"{where}: missing")
    words = (node.findtext("data") or "").split()
    rows = (node.findtext("rows") or "").strip()
    if not rows.isdigit() or not 0 < int(rows) <= 100_000:
        raise UserError(f"{where}: {rows!r} rows")
    return numbers_of(words, int(rows) * columns, where).reshape(int(rows), columns)
