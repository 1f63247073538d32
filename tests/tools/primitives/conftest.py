"""A short street and a scene of primitives trained on it, once for all tests of editing and blocks."""

from __future__ import annotations

import pytest

import fieldstone as fs
from fieldstone.datasets.synthetic.street_files import write_street

SETTINGS = {
    "voxel": 1.0, "hash_levels": 6, "primitives_a_step": 256, "pixels": 1024, "spare": 0, "prune": 0, "far": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("primitives") / "street"
    write_street(folder, frames=17, width=96, height=32, without_pose=(), columns=180)
    return folder


@pytest.fixture(scope="session")
def whole(street, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "street"
    return fs.train_scene(street, out, steps=120, method="dnmp", settings=SETTINGS, quiet=True)
