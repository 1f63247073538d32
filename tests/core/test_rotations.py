"""Rotations against SciPy's, and the identities between notations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fieldstone.core import rotations as r

ANGLES = (0.0, 1e-12, 1e-8, 1e-4, 0.05, 0.0999999, 0.1000001, 1.0, math.pi - 1e-9, math.pi, 4.0, 2 * math.pi)


def vectors(dtype=torch.float64, count=20):
    generator = torch.Generator().manual_seed(0)
    axes = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    return (torch.tensor(ANGLES, dtype=torch.float64)[:, None, None] * axes).reshape(-1, 3).to(dtype)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 4e-15), (torch.float32, 6e-7)])
def test_rodrigues_equals_scipy(dtype, bound):
    v = vectors(dtype)
    expected = Rotation.from_rotvec(v.double().numpy()).as_matrix()
    assert np.abs(r.axis_angle_to_matrix(v).double().numpy() - expected).max() < bound


def test_every_notation_comes_back():
    m = torch.from_numpy(Rotation.random(200, random_state=1).as_matrix())
    assert torch.allclose(r.quaternion_to_matrix(r.matrix_to_quaternion(m)), m, atol=1e-14)
    assert torch.allclose(r.six_to_matrix(r.matrix_to_six(m)), m, atol=1e-14)
    assert torch.allclose(r.axis_angle_to_matrix(r.matrix_to_axis_angle(m)), m, atol=1e-13)
    for axes in ("xyz", "zyx", "yxz", "zxy"):
        assert torch.allclose(r.euler_to_matrix(r.matrix_to_euler(m, axes), axes), m, atol=1e-13)


def test_quaternions_are_w_first_and_intrinsic_euler_as_scipy_has_it():
    v = vectors()
    q = r.axis_angle_to_quaternion(v)
    expected = Rotation.from_rotvec(v.numpy()).as_quat()[:, [3, 0, 1, 2]]
    assert torch.allclose(
        (q.abs() - torch.from_numpy(np.abs(expected))).abs().max(), torch.tensor(0.0).double(), atol=1e-12
    )
    angles = torch.tensor([[0.3, -0.8, 1.9]], dtype=torch.float64)
    expected = Rotation.from_euler("ZYX", angles.numpy()).as_matrix()
    assert np.abs(r.euler_to_matrix(angles, "zyx").numpy() - expected).max() < 1e-15


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axes", ["xyz", "zyx", "yzx"])
def test_gimbal_lock_still_gives_the_rotation(axes, sign):
    m = r.euler_to_matrix(torch.tensor([0.4, sign * math.pi / 2, 0.7], dtype=torch.float64), axes)
    assert torch.allclose(r.euler_to_matrix(r.matrix_to_euler(m, axes), axes), m, atol=1e-7)


@pytest.mark.parametrize("angle", ANGLES[:9])
def test_gradients_of_rodrigues_everywhere(angle):
    v = (angle * torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(r.axis_angle_to_matrix, (v,))
    assert torch.autograd.gradgradcheck(r.axis_angle_to_matrix, (v,))


def test_logarithm_has_gradients_at_the_identity():
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    out = r.matrix_to_axis_angle(r.axis_angle_to_matrix(v))
    jacobian = torch.stack([torch.autograd.grad(out[i], v, retain_graph=True)[0] for i in range(3)])
    assert torch.allclose(jacobian, torch.eye(3, dtype=torch.float64))


def test_nearest_rotation_is_proper_and_keeps_rotations():
    m = torch.from_numpy(Rotation.random(20, random_state=2).as_matrix())
    noisy = m + 0.05 * torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = r.nearest_rotation(noisy)
    assert torch.allclose(torch.linalg.det(found), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(r.nearest_rotation(m), m, atol=1e-14)
    assert (r.nearest_rotation(-m) - m).abs().amax() > 0.1  # a reflection is not taken for a rotation


@settings(max_examples=50, deadline=None)
@given(st.floats(0, math.pi), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_angle_between_rotations(angle, x, y, z):
    axis = np.array([x, y, z])
    if np.linalg.norm(axis) < 1e-3:
        return
    v = torch.from_numpy(angle * axis / np.linalg.norm(axis))
    assert abs(float(r.rotation_angle(torch.eye(3).double(), r.axis_angle_to_matrix(v))) - angle) < 1e-6
