"""MANO and SMPL+H files of our own making: read, checked, repaired, and equal to smplx on the same file."""

import numpy as np
import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.articulated import ArticulatedModel, read_model, write_model
from fieldstone.fields.articulated.mano_file import fix_left_shapedirs, read_mano
from fieldstone.fields.articulated.mirror import mirror_model
from fieldstone.fields.articulated.model_data import ModelData

from .conftest import legacy_pickle, mano_dictionary, random_model


def posed_right(data: ModelData) -> ModelData:
    """A random model whose rest joints lie as a right hand's: wrist at 0, fingers to -x."""
    template = data.template.copy()
    for joint, place in ((0, 0.0), (4, -0.09), (5, -0.12), (6, -0.14)):
        row = np.zeros(len(template))
        row[joint] = 1
        data.joint_regressor[joint] = row
        template[joint] = (place, 0, 0)
    basis = data.shape_basis.copy()
    basis[..., 0] = 0.05 * (template - template.mean(0))  # the first direction is size
    return data.replace(template=template, shape_basis=basis)


@pytest.fixture
def files(tmp_path):
    right = posed_right(random_model("mano", 11))
    left = mirror_model(right)
    buggy = left.replace(shape_basis=left.shape_basis * np.array([-1, 1, 1])[:, None])
    paths = {}
    for name, data in (("MANO_RIGHT", right), ("MANO_LEFT", buggy), ("MANO_LEFT_fixed", left)):
        paths[name] = tmp_path / f"{name}.pkl"
        paths[name].write_bytes(legacy_pickle(mano_dictionary(data)))
    return right, left, paths


def test_a_mano_pickle_becomes_the_model_it_holds(files, tmp_path):
    right, _, paths = files
    found = read_mano(paths["MANO_RIGHT"])
    assert found.data.side == "right" and found.data.layout == "mano" and found.kind == "pickle"
    for name, array in right.arrays().items():
        if name not in ("pose_coefficients", "fingertips"):
            assert np.array_equal(getattr(found.data, name), array), name
    assert found.data.parents[0] == -1
    write_model(tmp_path / "model.npz", found.data)
    assert read_model(tmp_path / "model.npz").sha256() == found.data.sha256()


def test_the_same_model_writes_the_same_bytes(files, tmp_path):
    right, _, _ = files
    write_model(tmp_path / "a.npz", right)
    write_model(tmp_path / "b.npz", right)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_npz_with_the_same_keys_is_read_without_its_object_entries(files, tmp_path):
    right, _, _ = files
    values = mano_dictionary(right)
    values["J_regressor"] = values["J_regressor"].toarray()
    np.savez(tmp_path / "MANO_RIGHT.npz", joint2num=np.array({"a": 1}, dtype=object), **values)
    assert (
        read_mano(tmp_path / "MANO_RIGHT.npz").data.sha256()
        == read_mano(files[2]["MANO_RIGHT"]).data.sha256()
    )


def test_unmirrored_shapedirs_of_a_left_hand(files):
    right, left, paths = files
    alone = read_mano(paths["MANO_LEFT"])
    assert alone.data.side == "left" and any("--left-shapedirs" in note for note in alone.notes)
    assert not read_mano(paths["MANO_LEFT_fixed"]).notes
    compared = read_mano(paths["MANO_LEFT"], right=paths["MANO_RIGHT"])
    assert np.array_equal(compared.data.shape_basis, left.shape_basis)
    assert compared.data.info["left_shapedirs"] == "mirrored"
    forced = read_mano(paths["MANO_LEFT"], left_shapedirs="mirrored")
    assert np.array_equal(forced.data.shape_basis, left.shape_basis)
    kept = read_mano(paths["MANO_LEFT"], left_shapedirs="as_file", right=paths["MANO_RIGHT"])
    assert not np.array_equal(kept.data.shape_basis, left.shape_basis)
    assert fix_left_shapedirs(left, right) is None


def test_left_and_right_mixed_up_is_an_error(files, tmp_path):
    _, _, paths = files
    wrong = tmp_path / "MANO_LEFT_really.pkl"
    wrong.write_bytes(paths["MANO_RIGHT"].read_bytes())
    with pytest.raises(UserError, match=r"name says left.*--side right"):
        read_mano(wrong)
    assert read_mano(wrong, side="right").data.side == "right"


def test_smplh_without_hands_loads_and_merges(files, tmp_path):
    _, _, paths = files
    body = random_model("smplh", 2, vertices=161)
    path = tmp_path / "SMPLH_male.pkl"
    path.write_bytes(legacy_pickle(mano_dictionary(body)))
    bare = read_mano(path)
    assert len(bare.data.pose_components) == 0 and any("--hands" in note for note in bare.notes)
    merged = read_mano(path, hands=(paths["MANO_LEFT_fixed"], paths["MANO_RIGHT"])).data
    model = ArticulatedModel(merged, dtype=torch.float64, components=6)
    hand = ArticulatedModel(read_mano(paths["MANO_RIGHT"]).data, dtype=torch.float64, components=6)
    coefficients = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 6)))
    pose = torch.cat((torch.zeros(1, 3 + 63 + 6, dtype=torch.float64), coefficients), 1)
    angles = hand.pca.axis_angles(torch.cat((torch.zeros(1, 3, dtype=torch.float64), coefficients), 1))
    assert torch.allclose(model.pca.axis_angles(pose)[:, 37:], angles[:, 1:], atol=1e-12)
    with pytest.raises(UserError, match="left hand first"):
        read_mano(path, hands=(paths["MANO_RIGHT"], paths["MANO_LEFT_fixed"]))


def test_the_trees_ids_are_heeded(files, tmp_path):
    right, _, _ = files
    values = mano_dictionary(right)
    order = np.array([0, 3, 2, 1, *range(4, 16)])
    values["kintree_table"] = values["kintree_table"][:, order]
    path = tmp_path / "MANO_RIGHT_o.pkl"
    path.write_bytes(legacy_pickle(values))
    assert np.array_equal(read_mano(path).data.parents, right.parents)


def broken(values: dict, key: str, value) -> dict:
    return {k: (value if k == key else v) for k, v in values.items() if not (k == key and value is None)}


@pytest.mark.parametrize(
    "key, change, words",
    [
        ("weights", lambda w: w * 1.01, ["weights", "sum to 1", "1.01"]),
        ("weights", lambda w: w[:, :15], ["weights", "(778, 16)", "(778, 15)"]),
        ("weights", lambda w: np.where(np.arange(16) == 3, -0.5, w), ["weights", "at least 0", "-0.5"]),
        ("v_template", lambda t: np.where(np.arange(3) == 1, np.nan, t), ["template", "finite", "nan"]),
        ("v_template", None, ["v_template is missing", "weights"]),
        ("posedirs", lambda p: p[:, :, :120], ["pose_correctives", "135", "120"]),
        ("f", lambda f: f + 778, ["faces", "0 to 777"]),
        ("kintree_table", lambda k: k[:, ::-1], ["parents"]),
        ("kintree_table", lambda k: np.where(np.arange(16) == 1, 7, k), ["kintree_table", "ids"]),
        ("hands_components", lambda c: c[:, :30], ["hands_components", "45", "(45, 30)"]),
        ("bs_type", lambda _: "cubic", ["bs_type", "'lrotmin'", "'cubic'"]),
        ("shapedirs", lambda s: s.astype(object), ["shape", "object"]),
    ],
)
def test_bad_files_are_told_in_one_line_with_key_expected_and_found(files, tmp_path, key, change, words):
    values = mano_dictionary(files[0])
    values["J_regressor"] = values["J_regressor"].toarray()
    values[key] = None if change is None else change(values[key])
    if values[key] is None:
        del values[key]
    import pickle

    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(values, 2))
    with pytest.raises(UserError) as error:
        read_mano(path)
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message, message


@pytest.mark.parametrize("count", [6, 12])
@pytest.mark.parametrize("flat", [True, False])
def test_equal_to_smplx_on_the_same_file(files, count, flat):
    smplx = pytest.importorskip("smplx", reason="smplx is an optional oracle (pip install smplx)")
    data = files[0]
    theirs = smplx.MANO(
        "unused",
        data_struct=smplx.utils.Struct(**(mano_dictionary(data) | {"J_regressor": data.joint_regressor})),
        is_rhand=True,
        use_pca=True,
        num_pca_comps=count,
        flat_hand_mean=flat,
        batch_size=3,
    )
    ours = ArticulatedModel(data, mean="flat" if flat else "model", components=count)
    generator = torch.Generator().manual_seed(0)
    shape, root, pose, move = (torch.randn(3, n, generator=generator) for n in (10, 3, count, 3))
    expected = theirs(betas=shape, global_orient=root, hand_pose=pose, transl=move)
    found = ours(shape, torch.cat((root, pose), 1), move, pose_format="pca")
    assert (found.vertices - expected.vertices).abs().max() < 1e-5
    assert (found.joints - expected.joints).abs().max() < 1e-5
