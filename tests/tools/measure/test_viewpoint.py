"""Where the scanner stood: kept with the cloud and its file, and the side that normals of faces point to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.tools import measure
from fieldstone.tools.measure import Cloud, fit_plane, read, write_ply
from fieldstone.tools.measure.align import align
from fieldstone.tools.measure.faces import parallel_faces
from fieldstone.tools.measure.simulate import FlangeShape, Flaws, Stud, flange, scan, stereo_rig, view_pose

from .plates import plate, pose_at_random

FAR = np.array([5000.0, -3000.0, 800.0])
PLACE = np.array([0.125, -4.5, 600.1])


def far_cloud(**kind):
    points = np.random.default_rng(0).uniform(-20, 20, (300, 3)) + FAR
    return Cloud.from_points(points, "mm", **kind)


def test_it_is_kept_with_the_cloud_and_its_file(tmp_path):
    cloud = far_cloud(viewpoint=FAR + PLACE)
    assert cloud.origin.any()  # far from zero: points are near their own origin, and so is the viewpoint
    np.testing.assert_allclose(cloud.viewpoint + cloud.origin, FAR + PLACE, atol=1e-12)
    write_ply(tmp_path / "a.ply", cloud)
    again = read(tmp_path / "a.ply")
    np.testing.assert_array_equal(again.viewpoint + again.origin, FAR + PLACE)
    inches = again.to_unit("inch")
    np.testing.assert_allclose(inches.viewpoint + inches.origin, (FAR + PLACE) / 25.4, rtol=1e-14)
    np.testing.assert_array_equal(again.select(np.arange(10)).viewpoint, again.viewpoint)
    write_ply(tmp_path / "b.ply", far_cloud())
    assert read(tmp_path / "b.ply").viewpoint is None
    with pytest.raises(UserError, match=r"viewpoint .*three finite numbers"):
        far_cloud(viewpoint=[0.0, np.nan, 0.0])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("comment viewpoint 1 2.5 -3e2", [1, 2.5, -300]),
        ("obj_info Viewpoint 0 0 0", [0, 0, 0]),
        ("comment viewpoint of the artist", None),
        ("comment viewpoint 1 2", None),
        ("comment viewpoint 1 2 inf", None),
    ],
)
def test_a_comment_of_a_ply_says_it_or_is_about_something_else(tmp_path, line, expected):
    header = f"ply\nformat ascii 1.0\n{line}\nelement vertex 2\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "a.ply").write_text(header + "0 0 1\n1 0 1\n")
    found = read(tmp_path / "a.ply").viewpoint
    assert found is None if expected is None else found.tolist() == expected


def test_it_moves_with_a_cloud_that_is_aligned():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (3000, 3)) * [30, 20, 2]
    points[:, 2] += 0.02 * points[:, 0] ** 2 + 0.1 * points[:, 1]
    pose = pose_at_random(rng)
    seen = Cloud.from_points(
        points @ pose[:3, :3].T + pose[:3, 3], "mm", viewpoint=pose[:3, :3] @ PLACE + pose[:3, 3]
    )
    moved, _ = align(seen, Cloud.from_points(points, "mm"), np.random.default_rng(0))
    # as exact as the alignment itself is; its lever is 600 mm
    back = moved.world_points - points
    assert np.linalg.norm(moved.viewpoint + moved.origin - PLACE) < 1.0 + 60 * np.abs(back).max()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_planes_and_faces_look_at_it(side):
    rng = np.random.default_rng(0)
    points = plate(rng, [(0.0, 0.0, 10.0)], outer=30.0, density=4.0, depth=4.0)
    points = points @ np.diag([1.0, side, side])  # the face looks to z = +-1, its walls lie below
    cloud = Cloud.from_points(points, "mm", viewpoint=[30.0, 0.0, side * 500])
    assert fit_plane(cloud)["normal"][2] * side > 0.999
    assert fit_plane(replace(cloud, viewpoint=None))["normal"][2] > 0.999
    (face,) = parallel_faces(cloud, rng=rng)
    assert face.axes[2, 2] * side > 0.999
    # normals of the points are more than a place
    inwards = replace(cloud, normals=np.tile([0.0, 0.0, -side], (len(cloud), 1)))
    assert fit_plane(inwards)["normal"][2] * side < -0.999


@pytest.fixture(scope="module")
def studded():
    """(placed part, scan) of a plate with four M10 studs: more points stand above the face than are seen below."""
    places = [(38.0, 0.0), (0.0, 38.0), (-38.0, 0.0), (0.0, -38.0)]
    studs = tuple(Stud(x, y, length=12.0, name=f"stud{i}") for i, (x, y) in enumerate(places))
    rig = stereo_rig(width=480, height=360, view=170.0, flaws=Flaws(noise=0.03, blur=0.4))
    part = flange(FlangeShape(outer_radius=60.0, bore_radius=15.0, studs=studs))
    part = part.placed(view_pose(rig, tilt_deg=15, azimuth_deg=60))
    return part, scan(part, rig, np.random.default_rng(0))[0]


def test_a_scanned_flange_with_studs_is_not_upside_down(studded, tmp_path):
    part, cloud = studded
    write_ply(tmp_path / "studs.ply", cloud)
    found = measure.find_holes(read(tmp_path / "studs.ply"))
    truth = part.feature("face").parameters["normal"]
    assert found["normal"] @ truth > 1 - 1e-6
    kinds = [hole["type"] for hole in found.parameters["holes"]]
    assert kinds.count("boss") == 4 and "slot" not in kinds, kinds
    for hole in found.parameters["holes"]:
        if hole["type"] == "boss":
            assert hole["height"] == pytest.approx(16, abs=1.0)  # shank and thread
    bore = next(hole for hole in found.parameters["holes"] if hole["type"] == "hole")
    assert bore["radius"] == pytest.approx(15, abs=0.1)
