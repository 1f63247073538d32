"""Pictures of meshes: what is in them, not how they look."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
import trimesh

from fieldstone.core.errors import UserError
from fieldstone.render.rasterise import STYLES, camera_at, picture, write_picture


def ball():
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return torch.tensor(np.array(mesh.vertices), dtype=torch.float32), torch.tensor(np.array(mesh.faces))


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_shows_the_mesh_on_its_background(style):
    vertices, faces = ball()
    view = camera_at(vertices, 64, 48)
    image = picture(vertices, faces, view, style, background=(0.0, 0.5, 1.0))
    assert image.shape == (48, 64, 3) and ((image >= 0) & (image <= 1)).all()
    torch.testing.assert_close(image[0, 0], torch.tensor([0.0, 0.5, 1.0]))
    middle = image[16:32, 24:40]
    assert (middle - torch.tensor([0.0, 0.5, 1.0])).abs().sum(-1).min() > 0.05
    assert middle.std() > 0.005


def test_normals_are_drawn_in_camera_axes():
    vertices, faces = ball()
    image = picture(vertices, faces, camera_at(vertices, 65, 65), "normals", smooth=True)
    torch.testing.assert_close(image[32, 32], torch.tensor([0.5, 0.5, 1.0]), atol=0.03, rtol=0)
    assert image[10, 32, 1] > 0.75 and image[32, 55, 0] > 0.8


def test_colours_of_vertices_and_of_faces_are_used():
    vertices, faces = ball()
    view = camera_at(vertices, 32, 32)
    red = torch.tensor([[1.0, 0.0, 0.0]])
    for colours in (red.expand(len(vertices), 3), red.expand(len(faces), 3)):
        image = picture(vertices, faces, view, colours=colours, background=(0, 0, 0))
        assert image[16, 16, 0] > 0.5 and image[..., 1:].max() == 0
    with pytest.raises(UserError, match="7 colours"):
        picture(vertices, faces, view, colours=red.expand(7, 3))


def test_bands_of_a_large_picture_do_not_show(monkeypatch):
    module = importlib.import_module(
        "fieldstone.render.rasterise.picture"
    )  # the package has a function of that name
    vertices, faces = ball()
    view = camera_at(vertices, 40, 31)
    whole = picture(vertices, faces, view, smooth=True)
    monkeypatch.setattr(module, "BAND", 500)
    torch.testing.assert_close(picture(vertices, faces, view, smooth=True), whole)


def test_a_camera_is_put_where_it_sees_all_of_the_mesh():
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(50, 3, generator=generator) * torch.tensor([5.0, 1.0, 0.2]) + 100
    pixels, z = camera_at(vertices, 80, 40).project(vertices.double(), torch.tensor([0]))
    assert (z > 0).all() and (pixels >= 0).all() and (pixels <= torch.tensor([80, 40])).all()
    assert pixels[:, 0].max() - pixels[:, 0].min() > 40


def test_a_picture_is_written_as_png_or_jpg(tmp_path):
    from PIL import Image

    image = torch.rand(6, 9, 3, generator=torch.Generator().manual_seed(0))
    write_picture(tmp_path / "a.png", image)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "a.png")) / 255, image.numpy(), atol=0.003)
    with pytest.raises(UserError, match=r"\.png or \.jpg"):
        write_picture(tmp_path / "a.bmp", image)
