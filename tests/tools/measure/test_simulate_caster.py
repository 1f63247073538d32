"""The ray caster against the definition of its faces, and the parts against themselves."""

from __future__ import annotations

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.tools.measure.simulate import (
    PRESETS,
    FlangeShape,
    Hole,
    Stud,
    bolt_circle,
    build,
    flange,
    pose_from,
    rotation_about,
    sample_surface,
    stud,
)
from fieldstone.tools.measure.simulate.caster_cpu import cast_rays, disc_height, lobes, visible_from
from fieldstone.tools.measure.simulate.faces import DISC, FRUSTUM, THREAD, thread_radius


def excess(face, points: np.ndarray) -> np.ndarray:
    """Signed height of points (n, 3) over a face's surface, from its definition, in plain arrays."""
    turn = np.eye(3) if face.rotation is None else face.rotation
    x, y, z = ((points - np.asarray(face.origin, float)) @ turn).T
    p = face.parameters
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    if face.kind == FRUSTUM:
        form = sum(
            face.form[2 * n] * np.cos((n + 2) * angle) + face.form[2 * n + 1] * np.sin((n + 2) * angle)
            for n in range(len(face.form) // 2)
        )
        return face.sign * (r - p[0] - p[1] * z - form)
    if face.kind == THREAD:
        if face.form and face.form[1]:
            wave = face.form[0] * np.sin(2 * np.pi * z / face.form[1])
        else:
            wave = 0
        along = z + wave - p[1] * p[2] * (angle - p[3]) / (2 * np.pi)
        return r - thread_radius(along, p[0], p[1], p[6])
    height = 0.0
    if face.kind == DISC and face.form:
        s = face.form[0]
        rho = r / s
        height = (
            face.form[1] * rho**2 * np.cos(2 * angle)
            + face.form[2] * rho**2 * np.sin(2 * angle)
            + face.form[3] * (2 * rho**2 - 1)
            + face.form[4] * rho**3 * np.cos(3 * angle)
            + face.form[5] * rho**3 * np.sin(3 * angle)
        )
    return face.sign * (z - height)


def rays_at(part, n: int, rng: np.random.Generator, reach=300.0):
    """Rays from a sphere around towards the part's neighbourhood."""
    origin = rng.normal(size=(n, 3))
    origin *= reach / np.linalg.norm(origin, axis=1, keepdims=True)
    centre = np.mean([face.bounds()[0] for face in part.faces], axis=0)
    size = max(face.bounds()[1] for face in part.faces)
    d = centre + rng.uniform(-size, size, (n, 3)) * 0.7 - origin
    return origin, d / np.linalg.norm(d, axis=1, keepdims=True)


@pytest.mark.parametrize("name", PRESETS)
def test_hits_lie_on_their_faces_and_nothing_is_in_front(name):
    rng = np.random.default_rng(3)
    part = build(name, rng).placed(pose_from(rotation_about((1, 2, 0.5), 33), (5, -3, 8)))
    origin, d = rays_at(part, 4000, rng)
    table = part.table()
    distance, face, normal = cast_rays(table, origin, d)
    hit = face >= 0
    assert hit.mean() > 0.1
    points = origin + d * np.where(hit, distance, 0)[:, None]
    ends = 0
    for i, one in enumerate(part.faces):
        mine = np.flatnonzero(face == i)
        if not len(mine):
            continue
        height = excess(one, points[mine])
        back = points[mine] - 1e-4 * d[mine]
        if (
            one.kind == THREAD
        ):  # its flat ends are hits too: within the thread's outline, and a step back is beyond the end
            turn = np.eye(3) if one.rotation is None else one.rotation
            low, high = one.parameters[4:6]
            z, z_back = (((p - np.asarray(one.origin)) @ turn)[:, 2] for p in (points[mine], back))
            flat = (np.abs(z - low) < 1e-9) | (np.abs(z - high) < 1e-9)
            ends += flat.sum()
            assert (height[flat] < 1e-9).all()
            assert ((z_back[flat] < low) | (z_back[flat] > high)).all()
            height, back = height[~flat], back[~flat]
        assert np.abs(height).max(initial=0) < 1e-9
        # from outside: a step back is above the face
        if len(back):
            assert (excess(one, back) > -1e-9).mean() > 0.99
        assert ((normal[mine] * d[mine]).sum(axis=1) < 1e-3).all()
    assert (ends > 0) == any(face.kind == THREAD for face in part.faces)
    np.testing.assert_allclose(np.linalg.norm(normal[hit], axis=1), 1, atol=1e-12)


def test_the_nearest_face_wins_against_dense_walking():
    """Walking along the ray in small steps through the solid's definition finds the same first crossing."""
    rng = np.random.default_rng(4)
    shape = Stud(
        major_diameter=16.0,
        pitch=2.0,
        starts=2,
        hand="left",
        start_angle_deg=70,
        shank=6.0,
        length=20.0,
        lead_wave=0.05,
    )
    part = stud(shape)
    thread, shank = part.faces
    origin, d = rays_at(part, 300, rng, reach=40.0)
    distance, _, _ = cast_rays(part.table(), origin, d)

    def inside(p):
        z = p[..., 2]
        flat = p.reshape(-1, 3)
        in_thread = (excess(thread, flat).reshape(z.shape) < 0) & (z > 6.0) & (z < 26.0)
        return in_thread | ((excess(shank, flat).reshape(z.shape) < 0) & (z > 0) & (z < 6.0))

    t = np.arange(0, 80, 0.004)
    for i in range(len(d)):
        walked = inside(origin[i] + t[:, None] * d[i])
        first = t[np.argmax(walked)] if walked.any() else np.inf
        if np.isfinite(distance[i]) != np.isfinite(first):
            # seen from below through the open foot (the walk notices a step late), or touched over less than a step
            below = origin[i] + d[i] * min(first, distance[i])
            assert below[2] < 0.0041 or walked.sum() < 3
        elif np.isfinite(first) and (origin[i] + d[i] * first)[2] > 0.01:
            assert abs(first - distance[i]) < 0.0041


def test_the_kernels_form_errors_are_the_definitions():
    part = build("turbine-flange", np.random.default_rng(0))
    face = next(f for f in part.faces if f.label == "face")
    bore = next(f for f in part.faces if f.label == "bore")
    rows = part.table().rows
    xy = np.random.default_rng(1).uniform(-100, 100, (50, 2))
    kernel = [disc_height(rows[part.faces.index(face)], x, y) for x, y in xy]
    np.testing.assert_allclose(kernel, -excess(face, np.column_stack([xy, np.zeros(50)])), atol=1e-15)
    radial = [lobes(rows[part.faces.index(bore)], x, y) for x, y in xy]
    on = np.column_stack([40 * xy / np.linalg.norm(xy, axis=1, keepdims=True), np.zeros(50)])
    np.testing.assert_allclose(radial, excess(bore, on), atol=1e-12)


def test_what_one_sees_is_lit_from_there():
    part = build("flange", np.random.default_rng(0))
    rng = np.random.default_rng(2)
    eye = np.array([30.0, -40.0, 250.0])
    d = np.column_stack([rng.uniform(-0.4, 0.4, (3000, 2)), -np.ones(3000)])
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    table = part.table()
    distance, face, normal = cast_rays(table, eye, d)
    hit = face >= 0
    points = eye + d[hit] * distance[hit, None]
    cosine = visible_from(table, points, normal[hit], eye)
    np.testing.assert_allclose(cosine, -(d[hit] * normal[hit]).sum(axis=1), atol=1e-9)
    # and from behind the flange nothing of its face is
    mine = face[hit] == 0
    assert not visible_from(table, points[mine], normal[hit][mine], np.array([0, 0, -250.0])).any()


@pytest.mark.parametrize("name", ["turbine-flange", "stud", "shaft"])
def test_surface_points_lie_on_their_faces_evenly(name):
    rng = np.random.default_rng(7)
    part = build(name, rng)
    cloud, owner = sample_surface(part, 6000, rng)
    assert len(cloud) == 6000
    world = cloud.world_points
    areas = {}
    for i, face in enumerate(part.faces):
        mine = owner == i
        assert np.abs(excess(face, world[mine])).max(initial=0) < 1e-9
        areas[face.label] = mine.mean()
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-9)
    # the same density everywhere: a flat patch holds what its area says
    if name == "turbine-flange":
        from fieldstone.tools.measure.simulate.surface import face_area

        total = sum(face_area(f) for f in part.faces)
        patch = (world[:, 2] < -14.99) & (np.hypot(world[:, 0], world[:, 1]) < 60)
        expected = 6000 * np.pi * (60**2 - 40**2) / total
        assert patch.sum() == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_noise_goes_along_the_normal_and_outliers_are_marked():
    rng = np.random.default_rng(8)
    part = build("flange", rng)
    cloud, owner = sample_surface(part, 20000, rng, noise=0.03, outliers=0.1)
    face = owner == 0
    assert cloud.world_points[face][:, 2].std() == pytest.approx(0.03, rel=0.05)
    assert (owner == -1).mean() == pytest.approx(0.1, abs=0.01)


def test_truth_moves_with_the_part_and_changes_unit():
    part = build("stud", np.random.default_rng(0))
    pose = pose_from(rotation_about((0.3, 1, 0.2), 50), (10, 20, 30))
    truth = part.placed(pose).truth("m")[0]
    assert truth.unit == "m" and truth.kind == "thread"
    assert truth["pitch"] == pytest.approx(0.002)
    np.testing.assert_allclose(truth["axis_point"], (pose[:3, :3] @ [0, 0, 8] + pose[:3, 3]) / 1000)
    from fieldstone.tools.measure.thread_axis import axis_frame

    u, v, _ = axis_frame(truth["axis_direction"])
    angle = np.deg2rad(truth["start_angle_deg"])
    turned = pose[:3, :3] @ [np.cos(np.deg2rad(40)), np.sin(np.deg2rad(40)), 0]
    np.testing.assert_allclose(np.cos(angle) * u + np.sin(angle) * v, turned, atol=1e-12)
    assert truth.to_json()["extras"]["truth"] is True


def test_parts_that_cannot_be_made_are_refused():
    with pytest.raises(UserError, match="beyond the face"):
        flange(FlangeShape(holes=(Hole(118, 0, 5, name="a"),)))
    with pytest.raises(UserError, match="run into each other"):
        flange(FlangeShape(holes=(Hole(80, 0, 5, name="a"), Hole(84, 0, 5, name="b"))))
    with pytest.raises(UserError, match="too coarse"):
        stud(Stud(major_diameter=2, pitch=3))
    with pytest.raises(UserError, match="hand"):
        stud(Stud(hand="up"))
    with pytest.raises(UserError, match="no simulated part"):
        build("gear", np.random.default_rng(0))
    with pytest.raises(UserError, match="angles"):
        bolt_circle(3, 50, 4, angles_deg=(0, 1))
