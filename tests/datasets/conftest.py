"""A small ring of cameras with pictures, for tests that write a capture and read it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fieldstone.render.cameras import Cameras

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def look_at(position, target=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(4, 4) camera_to_world, OpenCV axes, z up."""
    forward = np.subtract(target, position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return pose


@pytest.fixture
def ring():
    """`ring(n, model, params, width, height)`: n cameras at distance 4 around the origin, looking at it."""

    def make(n=10, model="PINHOLE", params=(30.0, 31.0, 15.5, 12.25), width=32, height=24) -> Cameras:
        angles = np.linspace(0, 2 * np.pi, n, endpoint=False) + 0.1
        poses = [look_at((3.5 * np.cos(a), 3.5 * np.sin(a), 1.0 + 0.5 * np.sin(3 * a))) for a in angles]
        lens = torch.tensor([list(params)], dtype=torch.float64).expand(n, len(params))
        return Cameras(
            (model,) * n, lens, torch.tensor([[width, height]] * n), torch.from_numpy(np.array(poses))
        )

    return make


@pytest.fixture
def pictures():
    """`pictures(n, width, height, channels)`: n different uint8 images (opaque in one corner if RGBA)."""

    def make(n=10, width=32, height=24, channels=3) -> list[np.ndarray]:
        generator = np.random.default_rng(7)
        images = [generator.integers(0, 256, (height, width, channels), dtype=np.uint8) for _ in range(n)]
        for image in images:
            image[0, 0] = 255
        return images

    return make


@pytest.fixture
def shared():
    """`shared("fox")`: the path of a shared data set, or a skip that says it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"../shared/data/{name} is absent")
        return path

    return find


STREET = {"frames": 6, "width": 64, "height": 24, "without_pose": (2,), "columns": 90}


@pytest.fixture(scope="session")
def street_tree(tmp_path_factory):
    """(folder, street): six frames of the synthetic street in KITTI-360's layout, the third without a pose. Copy it before changing it."""
    from fieldstone.datasets.synthetic.street_files import write_street

    folder = tmp_path_factory.mktemp("street") / "k360"
    return folder, write_street(folder, **STREET)
