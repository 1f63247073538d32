"""Picture metrics against scikit-image, closed forms and each other."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.tools.metrics import error_map, lpips_or_none, psnr, ssim


def pictures(shape=(40, 53, 3), noise=0.1, seed=0):
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    target = 0.5 + 0.4 * np.sin(rows[..., None] / 5 + columns[..., None] / np.array([3.0, 4.0, 7.0]))
    prediction = np.clip(target + noise * generator.normal(size=shape), 0, 1)
    return prediction.astype(np.float32), target.astype(np.float32)


def test_psnr_of_a_known_error():
    target = np.full((8, 9, 3), 0.5, np.float32)
    assert psnr(target + np.float32(0.125), target) == pytest.approx(-10 * math.log10(1 / 64), abs=1e-9)
    assert psnr(target, target) == math.inf


def test_psnr_counts_only_the_mask():
    prediction, target = pictures()
    mask = np.zeros(target.shape[:2], bool)
    mask[5:20, 7:30] = True
    assert psnr(prediction, target, mask) == pytest.approx(psnr(prediction[5:20, 7:30], target[5:20, 7:30]))
    assert psnr(np.where(mask[..., None], target, prediction), target, mask) == math.inf


def test_values_that_no_screen_shows_are_clipped():
    prediction, target = pictures()
    wild = np.where(target > 0.85, target * 3, target)
    assert psnr(wild, target) == pytest.approx(psnr(np.clip(wild, 0, 1), target))
    assert psnr(prediction, np.ones_like(target) * 2) == pytest.approx(psnr(prediction, np.ones_like(target)))


@pytest.mark.parametrize("shape", [(40, 53, 3), (11, 11, 3), (64, 12, 3)])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.4])
def test_ssim_is_that_of_scikit_image(shape, noise):
    from skimage.metrics import structural_similarity

    prediction, target = pictures(shape, noise)
    expected = structural_similarity(
        prediction.astype(np.float64),
        target.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    assert ssim(prediction, target) == pytest.approx(expected, abs=1e-12)


def test_ssim_sees_structure_that_psnr_does_not():
    _, target = pictures(noise=0)
    brighter = np.clip(target + 0.05, 0, 1)
    checker = 0.05 * (-1.0) ** np.add.outer(np.arange(40), np.arange(53))[..., None]
    rough = np.clip(target + checker, 0, 1)
    assert psnr(rough, target) == pytest.approx(psnr(brighter, target), abs=0.3)
    assert ssim(rough, target) < ssim(brighter, target) - 0.01


def test_ssim_mask_keeps_the_windows_centred_on_it():
    prediction, target = pictures()
    everywhere = np.ones(target.shape[:2], bool)
    assert ssim(prediction, target, everywhere) == pytest.approx(ssim(prediction, target))
    left = everywhere.copy()
    left[:, 20:] = False
    spoilt = prediction.copy()
    spoilt[:, 26:] = 0  # beyond the reach of every window centred left of column 20
    assert ssim(spoilt, target, left) == pytest.approx(ssim(prediction, target, left))
    assert ssim(spoilt, target) < ssim(prediction, target) - 0.1


def test_tensors_and_arrays_are_alike():
    prediction, target = pictures()
    tensors = torch.from_numpy(prediction).requires_grad_(), torch.from_numpy(target)
    assert psnr(*tensors) == psnr(prediction, target)
    assert ssim(*tensors) == ssim(prediction, target)


def test_error_map_is_black_where_equal_and_brightens_with_the_error():
    target = np.full((4, 5, 3), 0.5, np.float32)
    prediction = target + np.array([0, 0.02, 0.08, 0.2, 0.5], np.float32)[:, None]
    picture = error_map(prediction, target)
    assert picture.shape == (4, 5, 3) and picture.dtype == np.uint8
    assert (picture[:, 0] == 0).all() and (picture[:, 4] == [252, 246, 190]).all()
    assert (np.diff(picture[0].astype(int) @ [299, 587, 114]) > 0).all()


def test_lpips_is_none_where_it_is_not_installed(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lpips" else found(name))
    assert lpips_or_none(*pictures()) is None


@pytest.mark.parametrize("metric", [psnr, ssim, lpips_or_none, error_map])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a[:-1], "one shape"),
        (lambda a: a[..., :1], "one shape"),
        (lambda a: (a * 255).astype(np.uint8), "floats"),
        (lambda a: np.where(a > 0.8, np.nan, a), "not finite"),
    ],
)
def test_bad_pictures_are_refused(metric, spoil, message):
    prediction, target = pictures()
    with pytest.raises(UserError, match=message):
        metric(spoil(prediction), target)


def test_bad_masks_and_small_pictures_are_refused():
    prediction, target = pictures()
    with pytest.raises(UserError, match="no pixel"):
        psnr(prediction, target, np.zeros(target.shape[:2], bool))
    with pytest.raises(UserError, match="mask must be bool"):
        psnr(prediction, target, np.ones(target.shape[:2]))
    with pytest.raises(UserError, match="mask must be bool"):
        ssim(prediction, target, np.ones((3, 3), bool))
    with pytest.raises(UserError, match="11 x 11"):
        ssim(prediction[:10], target[:10])
