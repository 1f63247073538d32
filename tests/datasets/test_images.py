"""Image files of every kind, EXIF turning, area averaging, the cache, masks, what is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.image_file import decode, linear_to_srgb, read_header
from fieldstone.datasets.images import ByteCache, Images, ImageSource
from fieldstone.datasets.resample import area_resize, area_resize_mask
from fieldstone.datasets.writers import write_image, write_transforms_json


@pytest.fixture
def noise():
    return np.random.default_rng(3).integers(0, 256, (20, 30, 4), dtype=np.uint8)


def write_exr(path, channels: dict[str, np.ndarray]) -> None:
    exr = pytest.importorskip("OpenEXR", reason="the OpenEXR package is not installed")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with exr.File(header, channels) as file:
        file.write(str(path))


def check(path, expected, tolerance=0.0) -> None:
    """Header and pixels of `path`; `expected` is (h, w, 3 or 4), uint8 for 8-bit files, else float32."""
    header = read_header(path)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.alpha == (expected.shape[2] == 4)
    pixels = decode(path, upright=False)
    assert pixels.shape == expected.shape and pixels.dtype == expected.dtype
    assert np.abs(pixels.astype(np.float64) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *((".png", mode) for mode in ("RGB", "RGBA", "L", "LA", "P")),
        *((".tif", mode) for mode in ("RGB", "RGBA", "L")),
        *((suffix, "RGB") for suffix in (".bmp", ".webp")),
    ],
)
def test_eight_bit(tmp_path, noise, suffix, mode):
    grey = np.repeat(noise[..., :1], 3, axis=2)
    path = tmp_path / f"image{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    if mode == "P":
        image = Image.fromarray(noise[..., :3]).quantize(16)
        expected = np.asarray(image.convert("RGB"))
    else:
        image = Image.fromarray(noise).convert("RGBA")
        grey_image = Image.fromarray(noise[..., 0])
        alpha = Image.fromarray(noise[..., 3])
        image = {
            "RGB": Image.fromarray(noise[..., :3]),
            "RGBA": image,
            "L": grey_image,
            "LA": Image.merge("LA", (grey_image, alpha)),
        }[mode]
        expected = {
            "RGB": noise[..., :3],
            "RGBA": noise,
            "L": grey,
            "LA": np.concatenate([grey, noise[..., 3:]], axis=2),
        }[mode]
    image.save(path, **options)
    check(path, expected)


def test_palette_with_transparency(tmp_path, noise):
    image = Image.fromarray(noise[..., :3]).quantize(8)
    image.save(tmp_path / "p.png", transparency=2)
    pixels = decode(tmp_path / "p.png", upright=False)
    assert pixels.shape == (20, 30, 4)
    assert np.array_equal(pixels[..., 3] == 0, np.asarray(image) == 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit(tmp_path, suffix, channels):
    import cv2

    stored = np.random.default_rng(0).integers(0, 65536, (9, 11, channels), dtype=np.uint16)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    cv2.imwrite(str(tmp_path / f"i{suffix}"), stored[..., order])
    expected = stored if channels > 1 else np.repeat(stored, 3, axis=2)
    check(tmp_path / f"i{suffix}", (expected / 65535).astype(np.float32), 1e-7)


def test_suffix_does_not_matter(tmp_path, noise):
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    check(tmp_path / "a.jpg", noise)


def test_exr_is_linear_and_premultiplied(tmp_path):
    linear = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    alpha = np.random.default_rng(1).random((5, 7)).astype(np.float32)
    alpha[0, 0] = 0
    write_exr(tmp_path / "rgb.exr", {"RGB": linear * 2})
    check(tmp_path / "rgb.exr", linear_to_srgb(np.minimum(linear * 2, 1)), 1e-6)
    write_exr(tmp_path / "rgba.exr", {"RGBA": np.dstack([linear * alpha[..., None], alpha])})
    expected = np.dstack([linear_to_srgb(linear), alpha])
    expected[0, 0] = 0
    check(tmp_path / "rgba.exr", expected.astype(np.float32), 1e-5)
    write_exr(tmp_path / "y.exr", {"Y": linear[..., 0].astype(np.float16)})
    check(tmp_path / "y.exr", linear_to_srgb(linear[..., :1].repeat(3, 2)), 1e-3)


def test_srgb_curve():
    assert linear_to_srgb(np.array([0, 0.0031308, 0.5, 1])) == pytest.approx(
        [0, 0.04045, 0.735357, 1], abs=1e-5
    )


def test_radiance_hdr(tmp_path):
    import cv2

    linear = np.random.default_rng(0).random((16, 24, 3)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "a.hdr"), linear[..., ::-1])
    assert read_header(tmp_path / "a.hdr").linear
    check(tmp_path / "a.hdr", linear_to_srgb(linear), 0.05)  # RGBE has 8 bits for all three mantissas


def test_albert_exr(shared):
    pytest.importorskip("OpenEXR", reason="the OpenEXR package is not installed")
    pixels = decode(shared("images") / "albert.exr", upright=False)
    assert pixels.shape == (1024, 1024, 4) and pixels.dtype == np.float32
    assert 0 <= pixels.min() and pixels.max() <= 1 and 0.1 < pixels[..., :3].mean() < 0.9


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".png16", ".tif", ".hdr", ".exr", ".webp"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.95])
def test_cut_short(tmp_path, suffix, kept):
    import cv2

    path = tmp_path / f"photo{suffix.removesuffix('16')}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    if suffix == ".exr":
        write_exr(path, {"RGB": pixels.astype(np.float32)})
    elif suffix == ".hdr":
        cv2.imwrite(str(path), pixels.astype(np.float32) / 255)
    elif suffix == ".png16":
        cv2.imwrite(str(path), pixels.astype(np.uint16) * 257)
    else:
        Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    decode(path, upright=False)
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UserError) as error:
        decode(path, upright=False)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_huge_claims(tmp_path):
    header = (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1 << 30).to_bytes(4, "big") * 2 + b"\x10\x02\0\0\0" + bytes(60)
    )
    (tmp_path / "bomb.png").write_bytes(header)
    with pytest.raises(UserError, match="at most 2\\^28"):
        read_header(tmp_path / "bomb.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tif16", ".webp"])
def test_exif_orientation(tmp_path, noise, orientation, suffix):
    import tifffile
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = noise[..., :3]
    Image.fromarray(stored).save(tmp_path / "reference.png", exif=exif)
    with Image.open(tmp_path / "reference.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    path = tmp_path / f"a{suffix.removesuffix('16')}"
    if suffix.startswith(".tif"):
        pixels = stored.astype(np.uint16) * 257 if suffix == ".tif16" else stored
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)])
    else:
        Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))

    def pixels_of(turn: bool) -> np.ndarray:
        pixels = decode(path, upright=turn)
        return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)

    assert np.array_equal(pixels_of(True), upright)
    assert np.array_equal(pixels_of(False), stored)
    assert read_header(path).upright_size() == upright.shape[1::-1]


@pytest.mark.parametrize(("calibrated_on", "turned"), [((32, 24), False), ((24, 32), True)])
def test_exif_is_applied_only_where_the_intrinsics_need_it(tmp_path, ring, pictures, calibrated_on, turned):
    cameras = ring(4, width=calibrated_on[0], height=calibrated_on[1])
    write_transforms_json(tmp_path, cameras, [f"{i}.jpg" for i in range(4)])
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, image in enumerate(pictures(4)):
        Image.fromarray(image).save(tmp_path / f"{i}.jpg", exif=exif, quality=95)
    capture = datasets.open(tmp_path)
    assert capture.images[0].shape[1::-1] == calibrated_on and capture.cameras.size(0) == calibrated_on
    assert any(("applied" if turned else "ignored") in note for note in capture.notes)
    stored = decode(tmp_path / "0.jpg", upright=False)
    assert np.array_equal(capture.images.uint8(0), np.rot90(stored, -1) if turned else stored)


def test_area_average_is_exact():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    expected = pixels.reshape(2, 2, 2, 3, 3).mean(axis=(1, 3))
    assert np.abs(area_resize(pixels, 2, 2) - expected).max() <= 0.5
    assert area_resize(pixels.astype(np.float32) / 255, 2, 2) == pytest.approx(expected / 255, abs=1e-6)
    # 3 -> 2: weights 1 and 1/2
    row = np.array([0.0, 0.3, 0.9], np.float32)[None, :, None].repeat(3, 2)
    assert area_resize(row, 2, 1)[0, :, 0] == pytest.approx([0.1, 0.7])


def test_transparent_colour_does_not_bleed():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 100, 50, 255)
    pixels[1, 1] = (255, 0, 255, 0)  # magenta that must not be seen
    assert area_resize(pixels, 1, 1)[0, 0].tolist() == [200, 100, 50, 64]


def test_mask_keeps_only_wholly_usable_pixels():
    mask = np.ones((4, 4), bool)
    mask[0, 0] = False
    assert area_resize_mask(mask, 2, 2).tolist() == [[False, True], [True, True]]


def test_fractional_downscale(tmp_path, ring, pictures):
    write_transforms_json(tmp_path, ring(4), [f"{i}.png" for i in range(4)], images=pictures(4))
    capture = datasets.open(tmp_path, downscale=2.5)
    assert capture.images[0].shape == (10, 13, 3) and capture.cameras.size(0) == (13, 10)
    assert capture.cameras.params[0, :4].tolist() == pytest.approx(
        [30 * 13 / 32, 31 * 10 / 24, 15.5 * 13 / 32, 12.25 * 10 / 24]
    )
    with pytest.raises(UserError, match=r"downscale 0\.5"):
        datasets.open(tmp_path, downscale=0.5)


def test_other_size_of_same_shape_rescales_intrinsics(tmp_path, ring, pictures):
    write_transforms_json(tmp_path, ring(4), [f"{i}.png" for i in range(4)], images=pictures(4, 64, 48))
    capture = datasets.open(tmp_path)
    assert capture.cameras.params[0, :4].tolist() == [60, 62, 31, 24.5] and capture.cameras.size(0) == (
        64,
        48,
    )
    assert any("4 images differ in size" in note for note in capture.notes)
    write_image(tmp_path / "2.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"2\.png: the image is 40 x 40 pixels, its intrinsics are for 32 x 24"
    ):
        datasets.open(tmp_path)


def test_mixed_alpha_gives_four_channels_everywhere(tmp_path, noise):
    write_image(tmp_path / "a.png", noise)
    write_image(tmp_path / "b.png", noise[..., :3])
    images = Images([ImageSource(tmp_path / name, 30, 20) for name in ("a.png", "b.png")])
    assert images.has_alpha and images[1].shape == (20, 30, 4) and (images[1][..., 3] == 1).all()
    assert images[0] == pytest.approx(noise / np.float32(255)) and np.array_equal(images.uint8(0), noise)
    assert np.array_equal(images.uint8(-1), images.uint8(1))
    with pytest.raises(IndexError):
        images[2]


def test_cache_is_bounded_and_used():
    made = []

    def make(key):
        made.append(key)
        return np.zeros(100, np.uint8)

    cache = ByteCache(250)
    for key in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, because 0 was used since
        cache.get(key, lambda key=key: make(key))
        assert cache.bytes <= 250
    assert made == [0, 1, 2, 1]
    assert cache.get(9, lambda: np.zeros(1000, np.uint8)).nbytes == 1000 and cache.bytes <= 250


def test_images_are_independent_copies(tmp_path, noise):
    write_image(tmp_path / "a.png", noise)
    images = Images([ImageSource(tmp_path / "a.png", 30, 20)])
    first = images[0]
    first[:] = 0
    assert images[0] == pytest.approx(noise / np.float32(255))
    with pytest.raises(ValueError):
        images.uint8(0)[0, 0] = 1
