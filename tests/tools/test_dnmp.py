"""The method "dnmp" from a street's files to pictures and a mesh."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import trimesh

import fieldstone as fs
from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.synthetic.street_files import street_cameras, write_street
from fieldstone.fields.primitives import PrimitiveGeometry, template, voxelise
from fieldstone.render.rasterise import fragments
from fieldstone.tools.training.dnmp import DnmpMethod
from fieldstone.tools.training.dnmp_depth import seen_points
from fieldstone.tools.training.dnmp_shading import shade

SMALL = {"voxel": 1.0, "hash_levels": 6, "primitives_a_step": 256, "pixels": 1024}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dnmp") / "street"
    return folder, write_street(folder, frames=5, width=96, height=32, without_pose=(), columns=240)


@pytest.fixture(scope="module")
def run(street, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "street"
    return fs.train_scene(street[0], out, steps=120, method="dnmp", settings=SMALL, quiet=True)


def test_a_street_is_learned_and_evaluated(street, run):
    scores = fs.evaluate(run)
    black = np.mean(
        [-10 * np.log10((run.capture().images[i] ** 2).mean()) for i in run.capture().splits["test"]]
    )
    assert len(scores["views"]) == 2 and scores["psnr"] > max(black + 4, 13)
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert "shape_loss" in lines[0] and lines[0]["shape_loss"] > lines[1]["shape_loss"]
    truth = street[1].render(street_cameras(5, 96, 32), 3)
    view = run.scene().render_view(street_cameras(5, 96, 32), 3, normals=True)
    both = (truth["z_depth"] > 0) & (view["z_depth_median"].numpy() > 0)
    assert both.mean() > 0.4
    assert np.median(np.abs(truth["z_depth"] - view["z_depth_median"].numpy())[both]) < 0.6
    agree = (torch.from_numpy(truth["normals"])[both] * view["normals"][torch.from_numpy(both)]).sum(-1)
    assert agree.median() > 0.6


def test_a_run_without_its_photos_renders_the_same(run, tmp_path):
    again = fs.load_run(run.folder).scene()
    cameras = street_cameras(5, 48, 16, shift=0.5)
    first, second = run.scene().render_view(cameras, 2), again.render_view(cameras, 2)
    torch.testing.assert_close(first["colour"], second["colour"], rtol=0, atol=0)
    fs.render_views(run, "dataset", tmp_path / "views", split="test", downscale=2)
    assert len(list((tmp_path / "views").glob("*.png"))) == 2


def test_the_mesh_leaves_in_the_source_frame_with_its_primitives(run, street, tmp_path):
    mesh = fs.export_mesh(run, tmp_path / "street.ply")
    loaded = trimesh.load(tmp_path / "street.ply", process=False)
    assert len(loaded.faces) == len(mesh.faces) and len(mesh.faces) % 80 == 0
    number = np.asarray(mesh.vertex_attributes["primitive"]).reshape(-1, 42)
    assert (number == number[:, :1]).all() and len(np.unique(number)) == len(number)
    points = datasets.open(street[0]).points
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    # what lies behind the cameras was never seen, and is pruned
    assert (mesh.bounds[0, 1:] < low[1:] + 1).all() and (mesh.bounds[1] > high - 1).all()
    assert np.asarray(mesh.visual.vertex_colors)[:, :3].std() > 10
    with pytest.raises(UserError, match="is a mesh already"):
        fs.export_mesh(run, tmp_path / "street.glb", texture=True)


@pytest.mark.parametrize("progress", [0.1, 0.9], ids=["shapes", "colours"])
def test_a_step_depends_on_the_state_alone(street, progress):
    capture = datasets.open(street[0])
    options = SMALL | {"backend": "auto", "precision": "auto"}
    first, second = (DnmpMethod(capture, dict(options), seed=seed, device="cpu") for seed in (0, 0))
    for step in range(3):
        first.before_step(step, progress)
        first.loss(first.batch(step))
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for step in (3, 4):
        losses = []
        for method in (first, second):
            method.before_step(step, progress)
            losses.append(method.loss(method.batch(step))[0].detach())
        assert torch.equal(*losses) and float(losses[0]) > 0


def test_the_papers_preset_has_its_sizes_and_trains(street):
    capture = datasets.open(street[0])
    options = {"preset": "paper", "voxel": 2.0, "pixels": 64, "backend": "auto", "precision": "auto"}
    method = DnmpMethod(capture, options, seed=0, device="cpu")
    look = method.appearance
    assert look.grid is None and look.vertex.shape[1] == 21
    sizes = [tuple(weight.shape) for weight in look.opacity_head.weights]
    assert sizes[0] == (256, 21 * 13) and sizes[1:8] == [(256, 256)] * 7 and len(sizes) == 9
    assert method.options.layers == 6 and method.options.start == "sphere"
    # a sphere around each voxel, to start from
    radius = (method.geometry.local()[method.geometry.alive].norm(dim=2) - 1).abs()
    assert radius.max() < 0.1
    torch.testing.assert_close(look.vertex[:, :3].detach(), method.geometry.vertices().detach() / 10)
    method.before_step(0, 0.9)
    loss, seen = method.loss(method.batch(0))
    loss.backward()
    assert torch.isfinite(loss) and look.vertex.grad.abs().sum() > 0 and seen["rays"] == 64


def test_points_hidden_behind_others_are_not_seen(street):
    capture = datasets.open(street[0])
    camera = street_cameras(5, 96, 32)[2]
    pixel, z = seen_points(torch.from_numpy(np.asarray(capture.points, np.float64)), camera)
    assert len(pixel) == len(pixel.unique()) > 200
    truth = torch.from_numpy(street[1].render(camera, 0)["z_depth"]).reshape(-1)[pixel]
    good = (z - truth).abs() < 0.05 * truth + 0.2
    assert good[truth > 0].float().mean() > 0.85


def test_absent_layers_show_the_sky_and_layers_of_all_scales_come_in_order(run):
    scene = run.scene().primitives
    camera = street_cameras(5, 40, 14).transformed(run.scene().frame)[1]
    found = fragments(scene.vertices, scene.faces, camera, 4, back_faces=False)
    depth = torch.where(found.mask, found.distance, torch.inf)
    assert (depth[..., 1:] >= depth[..., :-1]).all()
    directions = camera.image_rays(0).directions
    nothing = torch.full((len(directions), 4), -1, dtype=torch.int32)
    with torch.no_grad():
        seen = shade(scene, nothing, torch.zeros(len(directions), 4, 3), directions)
        torch.testing.assert_close(seen.colour, scene.appearance.sky(directions))
    assert not seen.opacity.any()


def test_shapes_are_fitted_to_their_points():
    generator = np.random.default_rng(0)
    wall = np.column_stack([generator.uniform(0, 3, 4000), np.full(4000, 0.3), generator.uniform(0, 2, 4000)])
    voxels = voxelise(wall, 1.0, generator=generator)
    geometry = PrimitiveGeometry.of([voxels], "sphere")
    optimiser = torch.optim.Adam([geometry.codes, geometry.shifts], lr=2e-2)
    weights = torch.full((80, 1, 3), 1 / 3)
    chosen, points = torch.arange(len(geometry)), torch.from_numpy(voxels.points)
    start = float(geometry.point_loss(chosen, points, weights).detach())
    for _ in range(80):
        loss = geometry.point_loss(chosen, points, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.5 * start
    assert (geometry.vertices()[:, 1] - 0.3).abs().median() < 0.08
    encoded = PrimitiveGeometry.of([voxels], "encoder")
    assert float(encoded.point_loss(chosen, points, weights).detach()) < 0.6 * start
    assert (
        geometry.faces.shape == (80 * len(geometry), 3)
        and int(geometry.faces.max()) == 42 * len(geometry) - 1
    )
    assert (geometry.faces[:80] == template().faces).all()


def test_a_decoder_that_a_run_brings_stays_with_it():
    first, second = PrimitiveGeometry(2), PrimitiveGeometry(2)
    before = second.vertices()
    for weight in first.shapes.decoder.parameters():
        weight.zero_()
    torch.testing.assert_close(second.vertices(), before, rtol=0, atol=0)
    torch.testing.assert_close(PrimitiveGeometry(2).vertices(), before, rtol=0, atol=0)
    torch.testing.assert_close(first.vertices()[:42], template().vertices)


def test_codes_that_are_not_finite_are_counted_and_start_again():
    geometry = PrimitiveGeometry(5)
    with torch.no_grad():
        geometry.codes[3, 1] = torch.nan
        geometry.codes[1] *= 9
    with pytest.warns(UserWarning, match="1 of 5 primitives had codes that are not finite"):
        assert geometry.tidy() == 1
    torch.testing.assert_close(geometry.codes.norm(dim=1), torch.ones(5))


def test_what_cannot_be_trained_is_refused_in_one_line(street, tmp_path):
    capture = datasets.open(street[0])
    options = {"backend": "auto", "precision": "auto"}
    with pytest.raises(UserError, match="unknown setting 'voxle' of method dnmp"):
        DnmpMethod(capture, options | {"voxle": 1}, seed=0, device="cpu")
    with pytest.raises(UserError, match="preset 'huge'; there are paper, default, light"):
        DnmpMethod(capture, options | {"preset": "huge"}, seed=0, device="cpu")
    capture.points = capture.points * 0.001
    with pytest.raises(UserError, match="points and poses are not in one frame or unit"):
        DnmpMethod(capture, options, seed=0, device="cpu")
    capture.points = None
    with pytest.raises(UserError, match="no point cloud"):
        DnmpMethod(capture, options, seed=0, device="cpu").groups()
