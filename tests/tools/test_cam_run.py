"""Method cam through the commands: still and moving scenes, packed, at settings small enough to take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fieldstone as fs
from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.datasets.synthetic.moving import moving_scene, write_moving_capture
from fieldstone.fields.cam_radiance import TIMED, CamRadianceField, CamRadianceSettings
from fieldstone.render.cameras import Cameras
from fieldstone.tools.packing import pack as fs_pack

SMALL = {
    "levels": 4,
    "log2_table_size": 10,
    "finest_resolution": 64,
    "hidden": 16,
    "samples": 4096,
    "occupancy_resolution": 32,
    "steps_across": 128,
    "octaves": 4,
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moving")
    write_moving_capture(folder, size=32, train=8, test=4, samples=1)
    return folder


@pytest.fixture(scope="module")
def moving(capture):
    settings = {
        **SMALL,
        "encoder": "frequency",
        "density_layers": 2,
        "head_learning_rate": 1e-2,
        "samples": 2048,
    }
    return fs.train_scene(capture, capture / "run", method="cam", steps=100, settings=settings, quiet=True)


@pytest.fixture(scope="module")
def timed(capture):
    """Few steps of what a user gets by default behind a hash grid, with time in all three networks."""
    settings = {**SMALL, "hidden": 64, "modulation_of": "warp+trunk+colour", "modulation_resolution": [14]}
    return fs.train_scene(capture, capture / "timed", method="cam", steps=80, settings=settings, quiet=True)


@pytest.fixture(scope="module")
def still(capture):
    folder = capture / "still"
    folder.mkdir()
    for split in ("train", "test"):
        record = json.loads((capture / f"transforms_{split}.json").read_text())
        record["frames"] = [
            {key: value for key, value in frame.items() if key != "time"}
            | {"file_path": f"../{frame['file_path']}"}
            for frame in record["frames"]
        ]
        (folder / f"transforms_{split}.json").write_text(json.dumps(record))
    settings = {**SMALL, "norm": "layer"}
    return fs.train_scene(
        folder, capture / "still_run", method="cam", steps=80, settings=settings, quiet=True
    )


@pytest.mark.parametrize("encoder", ["hash-grid", "frequency"])
@pytest.mark.parametrize(
    "modulation, resolution", [("direction", (6, 3)), ("position", (4, 4, 4)), ("time", (5,))]
)
def test_density_depends_on_place_and_time_alone(encoder, modulation, resolution):
    settings = CamRadianceSettings(
        encoder=encoder, levels=4, log2_table_size=8, finest_resolution=64, hidden=16, norm="layer",
        modulation=modulation, resolution=resolution, moving=modulation == "time", timed=TIMED,
    )  # fmt: skip
    field = CamRadianceField(settings, generator=torch.Generator().manual_seed(0))
    for grid in field.grid_parameters():
        torch.nn.init.normal_(grid, std=0.3)
    points = torch.rand(300, 3)
    field.time = 0.3
    whole = field.density(points)
    torch.testing.assert_close(field.density(points[:7]), whole[:7])
    torch.testing.assert_close(field.geometry(points)[0], whole)
    density, known = field.look(points)
    torch.testing.assert_close(density, whole)
    if known is not None:
        torch.testing.assert_close(field.geometry(points, known)[0], whole)
    torch.testing.assert_close(field.density(points, torch.full((300, 1), 0.3)), whole)
    if modulation == "time":
        assert not torch.allclose(field.density(points, 0.9), whole)
    features = field.geometry(points)[1]
    rays = torch.nn.functional.normalize(torch.randn(10, 3), dim=1)
    seen = field.colour(rays, features, torch.arange(300, dtype=torch.int32) % 10)
    turned = field.colour(-rays, features, torch.arange(300, dtype=torch.int32) % 10)
    assert seen.shape == (300, 3) and not torch.allclose(seen, turned)
    loss = seen.sum() + field.geometry(points)[0].sum()
    loss.backward()
    for parameter in field.grid_parameters() + field.mlp_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


def test_settings_that_do_not_go_together_are_refused():
    for wrong in (
        {"encoder": "fourier"},
        {"modulation": "view"},
        {"modulation": "time", "resolution": (5,)},
        {"modulation": "direction", "resolution": (5,)},
        {"norm": "ray"},
        {"moving": True, "warp": "elastic"},
        {"moving": True, "modulation": "time", "resolution": (5,), "timed": ("trunk", "head")},
    ):
        with pytest.raises(UserError):
            CamRadianceField(CamRadianceSettings(**wrong))


def test_a_moving_scene_is_learned_and_shown_at_any_time(moving, tmp_path):
    lines = moving.metrics()
    assert lines[-1]["psnr"] > lines[0]["psnr"] and moving.config["settings"]["modulation"] == "time"
    scene, cameras = moving.scene(), moving.cameras_only.cameras
    at = moving.cameras_only.times
    own = scene.render_view(cameras, 3)["colour"]
    assert scene.field.time == pytest.approx(float(at[3]))
    scene.time = float(at[3])
    assert torch.equal(scene.render_view(cameras, 3)["colour"], own)
    scene.time = 1.0
    assert not torch.equal(scene.render_view(cameras, 3)["colour"], own)
    scene.time = None
    out = tmp_path / "frames"
    assert main(["render-views", str(moving.folder), "--frames", "3", "--out", str(out)]) == 0
    assert scene.time is None and len(list(out.glob("*.png"))) == 3
    mesh = tmp_path / "mesh.ply"
    command = [
        "export-mesh",
        str(moving.folder),
        "--method",
        "marching-cubes",
        "--resolution",
        "16",
        "--level",
        "0.1",
    ]
    assert main([*command, "--time", "0.5", "--out", str(mesh)]) == 0 and mesh.is_file()
    assert main([*command, "--time", "2", "--out", str(mesh)]) == 2


def test_few_steps_of_a_moving_scene_show_something(timed):
    capture, scene = fs.open_capture(timed.folder.parent), timed.scene()
    for frame in (1, 6):
        seen = scene.render_view(capture.cameras, frame, background="white")
        picture = capture.images[frame]
        truth = picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:]
        assert 0.05 < float(seen["opacity"].mean()) < 0.9
        error = float((seen["colour"] - torch.from_numpy(truth)).square().mean())
        blank = min(float(np.square(truth - grey).mean()) for grey in (1, truth.mean((0, 1))))
        assert error < 0.7 * blank


def test_time_in_every_network_is_counted_and_packed(timed, tmp_path):
    field = timed.scene().field
    assert sum(grid.numel() for grid in field.grid_parameters()) == 14 * (3 + 2 + 2) * 2
    assert all(grid.abs().max() > 0 for grid in field.grid_parameters())
    quantised, _ = timed.method().packing()
    packed = {name: values.numel() for name, values in quantised.items() if ".modulation." in name}
    assert sum(packed.values()) == 196 and {name.split(".")[1] for name in packed} == {
        "warp", "density_head", "colour_head",
    }  # fmt: skip
    file = tmp_path / "scene.fsp"
    fs_pack.pack(timed, file, bits=32)
    cameras = timed.cameras_only.cameras
    views = [run.scene().render_view(cameras, 5)["colour"] for run in (timed, fs.load_run(file))]
    assert torch.equal(*views)


def test_a_still_scene_has_no_times(still, tmp_path):
    assert still.config["settings"]["modulation"] == "direction"
    assert main(["render-views", str(still.folder), "--time", "0.5", "--out", str(tmp_path / "o")]) == 2


@pytest.fixture(scope="module", params=["dense", "sum"])
def placed(request, still, capture):
    settings = {
        **SMALL, "encoder": "frequency", "density_layers": 2, "modulation": "position", "norm": "layer",
        "modulation_factors": request.param, "modulation_resolution": [24, 20, 22], "modulation_channels": 2,
    }  # fmt: skip
    out = capture / f"placed_{request.param}"
    return fs.train_scene(capture / "still", out, method="cam", steps=60, settings=settings, quiet=True)


def test_modulation_by_position_packs_what_is_seen(placed, tmp_path):
    file = tmp_path / "scene.fsp"
    fs_pack.pack(placed, file, bits=32)
    packed = fs.load_run(file)
    cameras = placed.cameras_only.cameras
    views = [run.scene().render_view(cameras, 1)["colour"] for run in (placed, packed)]
    assert torch.equal(*views)
    quantised, _ = placed.method().packing()
    values = sum(v.numel() for name, v in quantised.items() if ".modulation." in name)
    numbers = sum(grid.numel() for grid in placed.scene().field.grid_parameters())
    dense = placed.config["settings"]["modulation_factors"] == "dense"
    assert 0 < values < numbers if dense else values == numbers
    again, _ = packed.method().packing()
    assert quantised.keys() == again.keys() and all(
        torch.equal(quantised[name], again[name]) for name in again
    )


def test_decay_does_not_empty_a_warp(moving):
    assert moving.config["settings"]["head_weight_decay"] == 0
    warp = moving.scene().field.warp
    with torch.no_grad():
        moved = warp(torch.rand(500, warp.weights[0].shape[1]) * 2 - 1)
    assert (moved.std(0) > 1e-4).all()


def test_rays_of_many_moments_are_seen_at_their_own(moving):
    method = moving.method()
    field = method.field
    points = torch.rand(300, 3)
    times = torch.rand(300, 1)
    density, known = field.look(points, times)
    torch.testing.assert_close(density, field.density(points, times))
    torch.testing.assert_close(field.geometry(points, known, times)[0], density)
    for i in (0, 77):
        torch.testing.assert_close(density[i : i + 1], field.density(points[i : i + 1], float(times[i])))


@pytest.mark.parametrize("which", ["still", "moving"])
def test_scenes_pack_and_come_back(which, tmp_path, request):
    run = request.getfixturevalue(which)
    file = tmp_path / "scene.fsp"
    assert main(["pack", str(run.folder), "--out", str(file)]) == 0
    before, after = fs.evaluate(run), fs.evaluate(file)
    assert after["bytes"] == file.stat().st_size < 0.5 * before["bytes"]
    assert abs(before["psnr"] - after["psnr"]) < 0.15
    unpacked = tmp_path / "run"
    assert main(["unpack", str(file), "--out", str(unpacked)]) == 0
    assert main(["train-scene", "--out", str(unpacked), "--resume"]) == 2
    again = tmp_path / "again.fsp"
    assert main(["pack", str(unpacked), "--out", str(again)]) == 0
    assert again.read_bytes() == file.read_bytes()
    cameras = run.cameras_only.cameras
    views = [fs.load_run(path).scene().render_view(cameras, 1)["colour"] for path in (file, unpacked)]
    assert torch.equal(*views)


def test_the_moving_scene_is_what_it_says(capture):
    opened = fs.open_capture(capture)
    assert [len(opened.splits[name]) for name in ("train", "test")] == [8, 4]
    np.testing.assert_allclose(opened.times[:8], np.linspace(0, 1, 8), atol=1e-6)
    frame = 5
    truth = moving_scene(float(opened.times[frame])).render(
        opened.cameras[np.array([frame])], 0, samples=1, geometry=True
    )
    picture = opened.images[frame]
    assert (
        np.abs(picture[..., :3] * picture[..., 3:] - truth["colour"] * truth["alpha"][..., None]).max() < 0.01
    )
    seen = truth["z_depth"] > 0
    rays = opened.cameras.image_rays(frame)
    points = (
        rays.origins
        + rays.directions * (torch.from_numpy(truth["z_depth"]).flatten() / rays.z_per_distance)[:, None]
    )
    scene = moving_scene(float(opened.times[frame]))
    assert np.abs(scene.signed_distance(points.double().numpy()[seen.ravel()])).max() < 1e-3
    other = moving_scene(1.0)
    assert np.abs(other.signed_distance(points.double().numpy()[seen.ravel()])).max() > 0.05
    with pytest.raises(UserError, match="time"):
        moving_scene(1.5)
    with pytest.raises(UserError, match="share"):
        write_moving_capture(capture, share=0)
    camera = opened.cameras[np.array([frame])]
    noon, night = (
        moving_scene(1.0, daylight=dark).render(camera, 0, geometry=False) for dark in (False, True)
    )
    assert np.array_equal(noon["alpha"], night["alpha"])
    assert night["colour"].sum() < 0.7 * noon["colour"].sum()
    late = moving_scene(0.0, daylight=True, hour=1.0).render(camera, 0, geometry=False)
    early = moving_scene(0.0).render(camera, 0, geometry=False)
    assert (
        np.array_equal(late["alpha"], early["alpha"]) and late["colour"].sum() < 0.7 * early["colour"].sum()
    )
    assert isinstance(opened.cameras, Cameras)
