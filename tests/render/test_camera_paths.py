"""Camera paths: what they look at, how they move, and nerfstudio's files."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity
from fieldstone.render.cameras import (
    Cameras,
    dataset_path,
    focus_point,
    look_at,
    orbit,
    read_camera_path,
    spiral,
    up_direction,
    write_camera_path,
)
from fieldstone.render.cameras.camera_path_json import nerfstudio_similarity

CENTRE = np.array([1.0, -2.0, 0.5])
FORWARD_FACING = np.array([0.0, 0.0, 1.0])


def inward(count=24, elevation_deg=30, radius=3.0, up=(0, 0, 1.0)):
    """Cameras on a circle around CENTRE."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    high = np.radians(elevation_deg)
    ring = np.stack(
        [np.cos(high) * np.cos(angle), np.cos(high) * np.sin(angle), np.full(count, np.sin(high))], 1
    )
    places = CENTRE + radius * ring
    return Cameras.pinhole(look_at(places, CENTRE, np.array(up)), 500.0, 640, 480)


def facing_forward(count=20, reach=0.3, distance=5.0):
    """Cameras on a small patch of a plane, all looking at one far point; y down."""
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(-reach, reach, (count, 2)), np.zeros((count, 1))], 1)
    return Cameras.pinhole(
        look_at(places, distance * FORWARD_FACING, np.array([0, -1.0, 0])), 500.0, 640, 480
    )


def assert_rigid(cameras):
    rotation = cameras.camera_to_world[:, :3, :3]
    assert (rotation.mT @ rotation - torch.eye(3)).abs().max() < 1e-9
    assert (torch.linalg.det(rotation) > 0).all()


def assert_sees_in_the_middle(cameras, point):
    pixels, z_depth = cameras.project(
        torch.tensor(np.tile(point, (len(cameras), 1))), torch.arange(len(cameras))
    )
    assert (pixels - cameras.sizes / 2).abs().max() < 0.1
    assert (z_depth > 0).all()


def test_look_at_is_upright():
    pose = look_at(np.array([3.0, 0, 0]), np.zeros(3), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(pose[:3, 2], [-1, 0, 0])
    np.testing.assert_allclose(pose[:3, 1], [0, 0, -1])
    straight_down = look_at(np.array([0, 0, 3.0]), np.zeros(3), np.array([0, 0, 1.0]))
    np.testing.assert_allclose(straight_down[:3, :3].T @ straight_down[:3, :3], np.eye(3), atol=1e-12)
    with pytest.raises(UserError, match="lies on the point"):
        look_at(np.zeros(3), np.zeros(3), np.array([0, 0, 1.0]))


def test_focus_point_of_inward_and_forward_captures():
    np.testing.assert_allclose(focus_point(inward()), CENTRE, atol=1e-5)
    np.testing.assert_allclose(focus_point(facing_forward()), 5 * FORWARD_FACING, atol=0.02)


def test_focus_point_of_parallel_axes_is_ahead_of_them():
    poses = np.tile(np.eye(4), (10, 1, 1))
    poses[:, 0, 3] = np.linspace(-1, 1, 10)
    point = focus_point(Cameras.pinhole(poses, 500.0, 640, 480))
    np.testing.assert_allclose(point[:2], 0, atol=1e-9)
    assert 0.1 < point[2] < 10
    rng = np.random.default_rng(0)
    shaken = np.array(poses)
    shaken[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(10, 3)) * 1e-4).as_matrix()
    assert np.linalg.norm(focus_point(Cameras.pinhole(shaken, 500.0, 640, 480)) - point) < 0.5


def test_focus_point_of_diverging_axes_is_ahead_of_them():
    places = np.stack([np.linspace(-1, 1, 9), np.zeros(9), np.zeros(9)], 1)
    poses = look_at(places, places * 1.5 + 2 * FORWARD_FACING, np.array([0, -1.0, 0]))
    assert focus_point(Cameras.pinhole(poses, 500.0, 640, 480))[2] > 0


def test_focus_point_of_one_camera_and_of_none():
    np.testing.assert_allclose(focus_point(Cameras.pinhole(np.eye(4), 500.0, 640, 480)), [0, 0, 1])
    with pytest.raises(ValueError, match="no cameras"):
        focus_point(Cameras.concatenate([]))


def test_up_direction():
    np.testing.assert_allclose(up_direction(inward()), [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(up_direction(facing_forward()), [0, -1, 0], atol=1e-2)


def test_orbit_follows_the_training_cameras():
    training = inward()
    path = orbit(frames=36).cameras(training)
    assert len(path) == 36
    assert_rigid(path)
    assert_sees_in_the_middle(path, CENTRE)
    offsets = path.positions.numpy() - CENTRE
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), 3.0, atol=1e-4)
    np.testing.assert_allclose(offsets[:, 2], 3 * np.sin(np.radians(30)), atol=1e-4)
    np.testing.assert_allclose(path.positions[0], training.positions[0], atol=1e-4)
    step = np.linalg.norm(np.diff(path.positions.numpy(), axis=0, append=path.positions[:1].numpy()), axis=1)
    np.testing.assert_allclose(step, step[0], atol=1e-9)  # the last step closes the circle
    assert path.size(0) == (640, 480)
    assert path.params[0, :4].tolist() == pytest.approx([500, 500, 320, 240])


def test_orbit_in_any_orientation():
    """The same capture in a turned, scaled frame gives the same orbit in that frame."""
    turn = Similarity(0.1, Rotation.from_euler("xyz", [1.0, -0.7, 2.0]).as_matrix(), np.array([5.0, 6, 7]))
    path = orbit(frames=8).cameras(inward())
    turned = orbit(frames=8).cameras(inward().transformed(turn))
    expected = path.transformed(turn).camera_to_world
    assert (turned.camera_to_world - expected).abs().max() < 1e-4


def test_orbit_options():
    path = orbit(frames=4, turns=0.5, elevation_deg=0, radius=7, target=(0, 0, 0), up=(0, 0, 2)).cameras(
        inward(), width=320, height=200
    )
    assert_sees_in_the_middle(path, np.zeros(3))
    np.testing.assert_allclose(path.positions.norm(dim=1), 7)
    np.testing.assert_allclose(path.positions[:, 2], 0, atol=1e-9)
    assert path.size(0) == (320, 200)
    assert path.params[0, 1] == pytest.approx(500 / 480 * 200)
    moved = orbit(frames=3).cameras(inward(), extent_centre=CENTRE + 0.5)
    assert_sees_in_the_middle(moved, CENTRE + 0.5)


def test_orbit_of_forward_facing_and_single_cameras_is_valid():
    for training in (facing_forward(), facing_forward()[0]):
        path = orbit(frames=5).cameras(training)
        assert_rigid(path)
        assert_sees_in_the_middle(path, focus_point(training))


def test_spiral_stays_near_the_cameras_and_looks_ahead():
    training = facing_forward()
    path = spiral(frames=60).cameras(training)
    assert_rigid(path)
    assert_sees_in_the_middle(path, focus_point(training))
    positions = path.positions.numpy()
    assert (np.abs(positions[:, :2]) < 0.4).all()
    assert np.ptp(positions[:, 0]) > 0.3 and np.ptp(positions[:, 1]) > 0.3
    assert (path.forward[:, 2] > 0.9).all()
    assert len(spiral(frames=3).cameras(training[0])) == 3


def test_dataset_path_visits_the_views():
    training = inward(count=5)
    path = dataset_path(frames=9).cameras(training)
    assert_rigid(path)
    torch.testing.assert_close(path.camera_to_world[::2], training.camera_to_world)
    chosen = dataset_path(frames=3, views=[4, 0, -2], smooth=False).cameras(training)
    torch.testing.assert_close(chosen.camera_to_world, training.camera_to_world[[4, 0, 3]])
    halfway = dataset_path(frames=3, views=[0, 1], smooth=False).cameras(training)
    torch.testing.assert_close(halfway.positions[1], training.positions[:2].mean(0))
    angle = Rotation.from_matrix(halfway.camera_to_world[:, :3, :3].numpy())
    steps = (angle[1:] * angle[:-1].inv()).magnitude()
    assert steps[0] == pytest.approx(steps[1])
    assert len(dataset_path(frames=4).cameras(training[0])) == 4


def test_dataset_loop_is_smooth_and_closed():
    training = inward(count=12)
    path = dataset_path(frames=120, loop=True).cameras(training)
    torch.testing.assert_close(path.camera_to_world[::10], training.camera_to_world)
    steps = np.diff(np.concatenate([path.positions.numpy(), path.positions[:2].numpy()]), axis=0)
    turns = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    assert turns.max() < 3 * np.median(turns)  # no kink, the seam included


def test_default_size_suits_video():
    training = inward().resized(4001, 3001)
    assert orbit(frames=2).cameras(training).size(0) == (1280, 960)
    panoramas = Cameras(("EQUIRECTANGULAR",), torch.zeros(1, 12), [[200, 100]], np.eye(4)[None])
    assert orbit(frames=2).cameras(panoramas).models == ("PINHOLE", "PINHOLE")


@pytest.mark.parametrize("make", [orbit, spiral, dataset_path])
def test_paths_refuse(make):
    with pytest.raises(UserError, match="0 frames"):
        make(frames=0)
    with pytest.raises(UserError, match="no training cameras"):
        make(frames=2).cameras(Cameras.concatenate([]))
    with pytest.raises(UserError, match="both width and height"):
        make(frames=2).cameras(inward(), width=100)


def test_paths_refuse_values():
    with pytest.raises(UserError, match="radius is -1"):
        orbit(radius=-1)
    with pytest.raises(UserError, match="views 0 to 4"):
        dataset_path(views=[5]).cameras(inward(count=5))


# nerfstudio's files


def nerfstudio_file(folder, **changes):
    opengl = [1, 0, 0, 0.5, 0, 1, 0, 0.25, 0, 0, 1, 2.0, 0, 0, 0, 1]
    frame = {"camera_to_world": opengl, "fov": 90, "aspect": 2}
    value = {"render_width": 400, "render_height": 200, "camera_type": "perspective", "seconds": 2.0}
    value["camera_path"] = [frame, frame, frame]
    path = folder / "path.json"
    path.write_text(json.dumps(value | changes))
    return path


def test_reads_nerfstudio_axes_and_field_of_view(tmp_path):
    found = read_camera_path(nerfstudio_file(tmp_path))
    assert len(found.cameras) == 3 and found.fps == 1.5 and found.times is None and found.notes == ()
    assert found.cameras.models[0] == "PINHOLE"
    np.testing.assert_allclose(found.cameras.params[0, :4], [100, 100, 200, 100])
    np.testing.assert_allclose(found.cameras.positions[0], [0.5, 0.25, 2])
    np.testing.assert_allclose(found.cameras.forward[0], [0, 0, -1])  # OpenGL looks along -z
    # 90 degrees of height: a point one up and one ahead is on the top edge
    pixels, _ = found.cameras.project(torch.tensor([[0.5, 1.25, 1.0]]), torch.tensor([0]))
    np.testing.assert_allclose(pixels[0], [200, 0], atol=1e-4)


def test_undoes_nerfstudios_normalisation(tmp_path):
    rotation = Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix()
    transform = {"transform": np.column_stack([rotation, [1, 2, 3]]).tolist(), "scale": 0.25}
    found = read_camera_path(nerfstudio_file(tmp_path), transform=transform).cameras
    position = found.positions[0].numpy()
    np.testing.assert_allclose(0.25 * (rotation @ position + [1, 2, 3]), [0.5, 0.25, 2])
    np.testing.assert_allclose(rotation @ found.forward[0].numpy(), [0, 0, -1], atol=1e-12)


@pytest.mark.parametrize("kind", ["PINHOLE", "OPENCV_FISHEYE", "EQUIRECTANGULAR"])
@pytest.mark.parametrize("normalised", [False, True])
def test_files_round_trip(tmp_path, kind, normalised):
    path = orbit(frames=7).cameras(inward())
    params = path.params if kind != "EQUIRECTANGULAR" else torch.zeros(7, 12)
    cameras = Cameras((kind,) * 7, params, path.sizes, path.camera_to_world)
    transform = {"transform": np.eye(4)[[1, 2, 0]].tolist(), "scale": 0.5} if normalised else None
    times = np.linspace(0, 1, 7).astype(np.float32)
    write_camera_path(tmp_path / "a.json", cameras, seconds=3.5, times=times, transform=transform)
    found = read_camera_path(tmp_path / "a.json", transform=transform)
    assert found.cameras.models == cameras.models
    assert torch.equal(found.cameras.sizes, cameras.sizes)
    torch.testing.assert_close(found.cameras.camera_to_world, cameras.camera_to_world, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.cameras.params, cameras.params, atol=1e-9, rtol=0)
    assert found.seconds == 3.5 and found.fps == 2
    np.testing.assert_array_equal(found.times, times)


def test_fps_and_notes(tmp_path):
    frames = json.loads(nerfstudio_file(tmp_path).read_text())["camera_path"]
    path = nerfstudio_file(
        tmp_path, crop={"crop_bg_color": {}}, camera_path=[frames[0] | {"render_time": 0}, frames[1]]
    )
    value = json.loads(path.read_text())
    del value["seconds"]
    path.write_text(json.dumps(value | {"fps": 10}))
    found = read_camera_path(path)
    assert found.fps == 10 and found.times is None
    assert "crop" in found.notes[0] and "1 of 2 frames" in found.notes[1]


FRAME = {"camera_to_world": np.eye(4).reshape(-1).tolist(), "fov": 50}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"render_width": 0}, "render_width is 0"),
        ({"render_width": True}, "render_width is True"),
        ({"render_height": "tall"}, "render_height is 'tall'"),
        ({"render_height": 1e400}, "render_height is inf"),
        ({"camera_type": "vr180"}, "camera_type is 'vr180'; supported are perspective"),
        ({"camera_type": ["fisheye"]}, "camera_type is"),
        ({"seconds": -1}, "seconds is -1"),
        ({"camera_path": []}, "holds no frames"),
        ({"camera_path": {"a": 1}}, "holds no frames"),
        ({"camera_path": [3]}, "frame 0: camera_to_world must be 16"),
        (
            {"camera_path": [FRAME, FRAME | {"camera_to_world": [1, 2]}]},
            "frame 1: camera_to_world must be 16",
        ),
        ({"camera_path": [FRAME | {"camera_to_world": ["a"] * 16}]}, "frame 0: camera_to_world must be 16"),
        (
            {"camera_path": [FRAME | {"camera_to_world": [float("nan")] * 16}]},
            "frame 0: camera_to_world must",
        ),
        ({"camera_path": [FRAME | {"camera_to_world": [2.0] * 16}]}, "camera 0"),
        ({"camera_path": [FRAME | {"fov": 180}]}, "frame 0: fov is 180"),
        ({"camera_path": [{"camera_to_world": FRAME["camera_to_world"]}]}, "frame 0: fov is None"),
        ({"camera_path": [FRAME | {"render_time": 7}]}, "frame 0: render_time is 7"),
    ],
)
def test_malformed_files_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read_camera_path(nerfstudio_file(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "\xff\xfe"])
def test_files_that_are_no_paths_are_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"bad\.json"):
        read_camera_path(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_camera_path(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({}, "needs transform"),
        ({"transform": np.eye(3).tolist(), "scale": 1}, "must be 3x4"),
        ({"transform": np.eye(4).tolist(), "scale": 0}, "scale is 0"),
        ({"transform": (2 * np.eye(4)).tolist(), "scale": 1}, "not a rotation"),
    ],
)
def test_bad_transforms_are_refused(transform, message):
    with pytest.raises(UserError, match=message):
        nerfstudio_similarity(transform)


def test_writer_refuses_what_the_format_cannot_say(tmp_path):
    path = tmp_path / "a.json"
    two = inward(count=2)
    off_middle = Cameras.pinhole(two.camera_to_world, 500.0, 640, 480, [300, 240])
    stretched = Cameras.pinhole(two.camera_to_world, [500.0, 400.0], 640, 480)
    bent = Cameras(("RADIAL",) * 2, [[500.0, 320, 240, 0.1, 0]] * 2, two.sizes, two.camera_to_world)
    for cameras, message in (
        (two[[]], "no cameras"),
        (Cameras.concatenate([two, two.downscaled(2)]), "differ in size"),
        (off_middle, "principal point"),
        (stretched, "focal lengths"),
        (bent, "lens distortion"),
    ):
        with pytest.raises(UserError, match=message):
            write_camera_path(path, cameras)
    assert not path.exists()
