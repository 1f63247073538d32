"""Our own file: what it refuses."""

import io
import zipfile

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.fields.articulated import read_model, write_model
from fieldstone.fields.articulated.model_data import ModelData
from fieldstone.fields.articulated.model_file import FORMAT, read_npz

from .conftest import random_arrays, random_model


def test_nothing_is_lost(tmp_path):
    data = random_model("smplh", 5, vertices=49).replace(info={"source": "a test", "licence": "none"})
    write_model(tmp_path / "m.npz", data)
    again = read_model(tmp_path / "m.npz")
    assert again.info == data.info and again.joint_names == data.joint_names and again.side == "both"
    for name, array in data.arrays().items():
        assert np.array_equal(getattr(again, name), array) and getattr(again, name).dtype == array.dtype


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_foreign_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="hand convert"):
        read_model(saved(tmp_path / "a.npz", v_template=np.zeros((3, 3))))
    with pytest.raises(UserError, match="fieldstone-articulated-1"):
        read_model(saved(tmp_path / "b.npz", format=np.array("other")))
    with pytest.raises(UserError, match="no such file"):
        read_model(tmp_path / "absent.npz")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match=r"not an \.npz"):
        read_model(tmp_path / "c.npz")
    with pytest.raises(UserError, match=r"ends in \.npz"):
        write_model(tmp_path / "model.pkl", random_model("mano", 0))


def test_object_arrays_and_oversized_arrays_are_refused_unread(tmp_path):
    path = saved(tmp_path / "o.npz", format=np.array(FORMAT), template=np.array([{}, 1], dtype=object))
    with pytest.raises(
        UserError, match="template: expected numbers or text, found an array of Python objects"
    ):
        read_model(path)
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
        )
        file.writestr("template.npy", header.getvalue())
    with pytest.raises(UserError, match=r"template: expected at most .* bytes"):
        read_npz(bomb)


@pytest.mark.parametrize(
    "key, change, words",
    [
        (
            "parents",
            lambda p: np.where(np.arange(16) == 2, 5, p),
            "parents: expected each parent before its child",
        ),
        ("parents", lambda p: np.where(np.arange(16) == 0, 0, p), "parents: expected -1 for joint 0"),
        ("joint_regressor", lambda r: r * 2, "joint_regressor: expected rows that sum to 1, found 2"),
        ("joint_regressor", lambda _: None, "joint_regressor is missing"),
        ("faces", lambda f: f + 0.5, "faces: expected whole numbers, found type float64"),
        (
            "pose_components",
            lambda c: c[:, :44],
            r"pose_components: expected shape \(any, 45\), found \(45, 44\)",
        ),
        ("pose_mean", lambda m: m[:44], r"pose_mean: expected shape \(45\), found \(44,\)"),
        ("fingertips", lambda _: np.array([1, 2, 3]), "fingertips: expected 0, 5 or 10"),
        ("template", lambda t: t.astype(complex), "template: expected real numbers"),
        (
            "shape_basis",
            lambda s: s[:700],
            r"shape_basis: expected shape \(778, 3, any\), found \(700, 3, 10\)",
        ),
    ],
)
def test_arrays_that_do_not_fit(key, change, words):
    arrays = random_arrays("mano")
    arrays[key] = change(arrays.get(key))
    with pytest.raises(UserError, match=words):
        ModelData.checked(arrays, where="file")
