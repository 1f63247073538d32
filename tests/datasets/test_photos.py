"""Photos of a room corner that the test draws are placed where they were taken; others fall out with a reason."""

import json
import os

import numpy as np
import pytest
import torch

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.core.similarity import align_points
from fieldstone.datasets import photos
from fieldstone.datasets.photo_features import PhotoFeatures
from fieldstone.datasets.photo_mapping import turn_upright
from fieldstone.datasets.photo_pairs import likely_pairs, match, unit_descriptors
from fieldstone.datasets.photo_report import missing_reasons

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
POSES = 8


def poses() -> np.ndarray:
    """(8, 4, 4) camera_to_world on an arc around the corner of a room, level, z up."""
    result = np.tile(np.eye(4), (POSES, 1, 1))
    for i, pose in enumerate(result):
        angle = np.radians(20 + 50 * i / (POSES - 1))
        position = np.array([3.2 * np.cos(angle), 3.2 * np.sin(angle), 1.3 + 0.25 * (i % 3)])
        forward = np.array([0.3, 0.3, 0.8]) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return result


def draw(pose: np.ndarray, textures: np.ndarray) -> np.ndarray:
    """(240, 320, 3) uint8: the planes x = 0, y = 0 and z = 0 seen from `pose`, ray-cast."""
    import cv2

    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], -1) @ pose[:3, :3].T
    reach = np.where(rays < -1e-6, -pose[:3, 3] / np.minimum(rays, -1e-6), np.inf)
    plane = reach.argmin(-1)
    hit = pose[:3, 3] + rays * reach.min(-1)[..., None]
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for axis, texture in enumerate(textures):
        u, v = (hit[..., k].astype(np.float32) * 128 for k in range(3) if k != axis)
        seen = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        image[plane == axis] = seen[plane == axis]
    return image


def textures() -> np.ndarray:
    """(3, 640, 640, 3) uint8 blotches of several sizes."""
    import cv2

    generator = np.random.default_rng(5)
    result = []
    for _ in range(3):
        layers = [generator.random((640 // size, 640 // size, 3)) for size in (5, 10, 20, 40)]
        layers = [cv2.resize(layer, (640, 640), interpolation=cv2.INTER_CUBIC) for layer in layers]
        total = np.sum(layers, axis=0)
        result.append(np.clip((total - total.mean()) / total.std() * 60 + 128, 0, 255).astype(np.uint8))
    return np.array(result)


def save(folder, images: dict[str, np.ndarray]) -> None:
    from PIL import Image

    for name, image in images.items():
        Image.fromarray(image).save(folder / name)


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """Eight good photos, one of noise, one flat, one cut short; placed once. Folder, project, what was said."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed (extra sfm)")
    folder = tmp_path_factory.mktemp("photos")
    walls = textures()
    save(folder, {f"view_{i}.png": draw(pose, walls) for i, pose in enumerate(poses())})
    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    save(folder, {"noise.png": noise, "sky.png": np.full_like(noise, 200)})
    (folder / "cut.png").write_bytes((folder / "view_0.png").read_bytes()[:5000])
    said = []
    return folder, photos.place_photos(folder, report=said.append, threads=1), said


def test_photos_are_placed_where_they_were_taken(placed):
    folder, project, _ = placed
    assert project == folder / "fieldstone_sfm"
    capture = datasets.open(folder)
    assert capture.names == tuple(f"view_{i}.png" for i in range(POSES))
    truth, found = poses(), capture.cameras.camera_to_world.numpy()
    similarity = align_points(found[:, :3, 3], truth[:, :3, 3])
    errors = np.linalg.norm(similarity.apply(found[:, :3, 3]) - truth[:, :3, 3], axis=1)
    assert errors.max() < 0.01 * np.ptp(truth[:, :3, 3], axis=0).max()
    turned = similarity.apply_to_poses(found)[:, :3, :3]
    angles = np.arccos(np.clip((np.einsum("nij,nij->n", turned, truth[:, :3, :3]) - 1) / 2, -1, 1))
    assert np.degrees(angles).max() < 0.5
    assert abs(capture.cameras.params[0, 0].item() / FOCAL - 1) < 0.02


def test_up_is_z(placed):
    project = placed[1]
    found = datasets.open(project).cameras.camera_to_world.numpy()
    similarity = align_points(found[:, :3, 3], poses()[:, :3, 3])
    assert similarity.rotation[2, 2] > np.cos(np.radians(2))


def test_points_have_the_colours_of_the_photos(placed):
    capture = datasets.open(placed[1])
    i = torch.zeros(len(capture.points), dtype=torch.int64)
    pixels, depth = capture.cameras.project(torch.from_numpy(capture.points), i)
    inside = ((pixels >= 1) & (pixels < torch.tensor([WIDTH - 1, HEIGHT - 1]))).all(1) & (depth > 0)
    at = pixels[inside].long().numpy()
    colours = capture.images.uint8(0)[at[:, 1], at[:, 0], :3].astype(float)
    difference = np.abs(colours - capture.point_colours[inside.numpy()]).mean(axis=1)
    assert len(difference) > 50 and np.median(difference) < 25


def test_the_others_fall_out_with_a_reason(placed):
    _, project, said = placed
    record = json.loads((project / "report.json").read_text())
    assert record["placed"] == [f"view_{i}.png" for i in range(POSES)]
    assert set(record["not_placed"]) == {"noise.png", "sky.png", "cut.png"}
    assert "matches, too few; needs 30" in record["not_placed"]["noise.png"]
    assert "0 features, too few" in record["not_placed"]["sky.png"]
    assert "damaged or cut short" in record["not_placed"]["cut.png"]
    assert 0 < record["median_reprojection_error"] < 1
    assert "placed 8 of 11 photos" in said[-1] and "noise.png (" in said[-1]


def test_the_project_is_used_again_until_a_photo_changes(placed, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(placed[0], folder)  # keeps modification times
    monkeypatch.setattr(photos, "_place", lambda *_: pytest.fail("placed again"))
    said = []
    assert photos.place_photos(folder, report=said.append) == folder / "fieldstone_sfm"
    assert "placed 8 of 11" in said[0]
    os.utime(folder / "view_3.png", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception, match="placed again"):
        photos.place_photos(folder, report=said.append)
    with pytest.raises(pytest.fail.Exception, match="placed again"):
        photos.place_photos(folder, report=said.append, seed=1)


def test_an_interrupted_run_leaves_the_earlier_project(placed, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(placed[0], folder)
    project = folder / "fieldstone_sfm"
    before = {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}
    (project / ".placing").mkdir()  # of a run that was killed
    (folder / "sky.png").unlink()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(photos, "verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        photos.place_photos(folder, report=str, threads=1)
    assert before == {p: p.read_bytes() for p in project.rglob("*") if p.is_file()}


def test_a_workspace_elsewhere_knows_where_the_photos_are(placed, tmp_path, monkeypatch):
    record = json.loads((placed[1] / "report.json").read_text())

    def made_before(folder, files, building, *_):
        import shutil

        shutil.copytree(placed[1] / "sparse", building / "sparse")
        shutil.copy(placed[1] / "database.db", building)
        return record

    monkeypatch.setattr(photos, "_place", made_before)
    project = photos.place_photos(placed[0], tmp_path / "run" / "colmap", report=str)
    named = json.loads((project / "project.json").read_text())["images"]
    assert not os.path.isabs(named) and (project / named).resolve() == placed[0].resolve()
    assert len(datasets.open(project).names) == POSES
    assert sorted(entry.name for entry in project.iterdir() if entry.name != "images") == [
        "database.db",
        "project.json",
        "report.json",
        "sparse",
    ]


def test_photos_of_nothing_in_common_are_one_clear_line(tmp_path):
    pytest.importorskip("pycolmap", reason="pycolmap is not installed (extra sfm)")
    generator = np.random.default_rng(2)
    save(tmp_path, {f"{i}.png": generator.integers(0, 256, (60, 80, 3), dtype=np.uint8) for i in range(3)})
    with pytest.raises(UserError, match="none of the 3 photos could be placed") as caught:
        photos.place_photos(tmp_path, report=str, threads=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "fieldstone_sfm").exists()


def test_fewer_than_two_photos_are_refused(tmp_path):
    with pytest.raises(UserError, match="0 photos; at least 2"):
        photos.place_photos(tmp_path)
    save(tmp_path, {"one.png": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(UserError, match="1 photos; at least 2"):
        photos.place_photos(tmp_path)


def test_a_workspace_that_cannot_be_made_is_named(tmp_path):
    save(tmp_path, {f"{i}.png": np.zeros((8, 8, 3), np.uint8) for i in range(2)})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="name another folder"):
        photos.place_photos(tmp_path, tmp_path / "file" / "project")


def test_up_is_found_whichever_way_photos_are_stored():
    """Level cameras that all look down: the mean of their up directions leans, what they agree on does not."""
    truth = poses()
    tilt = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    tilt *= np.sign(np.linalg.det(tilt))
    tilted = truth.copy()
    tilted[:, :3, :3] = tilt @ truth[:, :3, :3]
    upright = np.tile([0.0, -1.0], (POSES, 1))
    turned = turn_upright(tilted, upright)
    assert (turned @ tilt)[2, 2] > 1 - 1e-6
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # stored pixels are the upright ones turned
    stored = tilted.copy()
    stored[:, :3, :3] = tilted[:, :3, :3] @ quarter.T
    np.testing.assert_allclose(turn_upright(stored, upright @ quarter[:2, :2].T), turned, atol=1e-9)


def test_exif_says_lens_and_way_up(tmp_path):
    from PIL import Image

    from fieldstone.datasets.photo_features import photo_features

    stored = np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for orientation, size, up in ((1, (90, 60), (0, -1)), (3, (90, 60), (0, 1)), (6, (60, 90), (0, -1))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif.get_ifd(0x8769)[0xA405] = 26
        path = tmp_path / f"{orientation}.jpg"
        Image.fromarray(stored).save(path, exif=exif)
        found = photo_features(path, 1200, 100)
        assert (found.width, found.height) == size and found.up == up
        assert found.focal_known and found.focal == pytest.approx(26 / 43.27 * np.hypot(90, 60))
    Image.fromarray(stored).save(tmp_path / "plain.png")
    found = photo_features(tmp_path / "plain.png", 1200, 100)
    assert not found.focal_known and found.focal == pytest.approx(1.2 * 90)


def test_each_missing_photo_has_the_reason_that_is_its_own():
    def photo(name: str, features: int = 500, sharp: float = 100.0) -> PhotoFeatures:
        keypoints = np.zeros((features, 4), np.float32)
        return PhotoFeatures(name, None, 8, 8, (0, -1), "", 10.0, False, sharp, keypoints, None, None)

    taken = [photo("a"), photo("b"), photo("c"), photo("blur", sharp=9), photo("part"), photo("bare", 20)]
    shared = {p.name: {} for p in taken}
    shared["c"] = {"a": set(range(40)), "b": set(range(20, 80)), "part": set(range(300))}
    shared["blur"] = {"a": {1, 2, 3}, "b": {3, 4}}
    reasons = missing_reasons(taken, {"a", "b"}, shared, {"part": 5})
    assert reasons == {
        "c": "80 matches that fit no single position",
        "blur": "blurred: sharpness 9, median of all 100; 4 matches, too few; needs 30",
        "part": "placed with 4 others in a part of its own; 0 matches to the main part do not tie them together",
        "bare": "20 features, too few; needs 100",
    }


def descriptors(generator, n: int) -> np.ndarray:
    return generator.integers(0, 256, (n, 128), dtype=np.uint8)


def test_matches_are_mutual_and_clear():
    generator = np.random.default_rng(4)
    a = descriptors(generator, 40)
    order = generator.permutation(40)
    b = a[order]
    b[5] = b[6]  # now two features of b are equally near to one of a: ambiguous
    found = match(unit_descriptors(a), unit_descriptors(b))
    expected = {(int(order[j]), j) for j in range(40) if j not in (5, 6)}
    assert set(map(tuple, found.tolist())) == expected
    assert match(unit_descriptors(a), unit_descriptors(descriptors(generator, 40))).shape == (0, 2)


def test_likely_pairs_find_the_photos_that_look_alike(monkeypatch):
    """Two groups of photos in mixed name order, above and below the number where all pairs are previewed."""
    generator = np.random.default_rng(6)
    scenes = [descriptors(generator, 60) for _ in range(2)]
    group = generator.integers(0, 2, 24)
    photo = [unit_descriptors(scenes[g][generator.permutation(60)[:40]]) for g in group]
    for exhaustive in (200, 10):
        monkeypatch.setattr("fieldstone.datasets.photo_pairs.EXHAUSTIVE", exhaustive)
        monkeypatch.setattr("fieldstone.datasets.photo_pairs._LOOK_ALIKE", 8)
        pairs = likely_pairs(photo, 6, np.random.default_rng(0))
        assert pairs == sorted(set(pairs)) and all(i < j for i, j in pairs)
        assert {(i, i + 1) for i in range(23)} <= set(pairs)
        apart = [(i, j) for i, j in pairs if j - i > 2]
        assert len(apart) > 30 and all(group[i] == group[j] for i, j in apart)
