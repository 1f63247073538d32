"""Frames of y4m, raw I420, folders and containers; memory that does not grow; what is wrong is said in one line."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fieldstone.core.errors import UserError
from fieldstone.datasets.moving_picture import open_moving_picture
from fieldstone.datasets.yuv import to_rgb


def scene(number: int, width: int = 32, height: int = 16) -> np.ndarray:
    """(h, w, 3) uint8: smooth colours that move."""
    y, x = np.mgrid[:height, :width]
    return np.stack([8 * x % 256, 10 * y + number, np.full_like(x, 20 * number % 256)], 2).astype(np.uint8)


def i420(frame: np.ndarray) -> bytes:
    import cv2

    return cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes()


def test_raw_video_is_told_its_size_and_read_frame_by_frame(tmp_path):
    path = tmp_path / "clip.yuv"
    path.write_bytes(b"".join(i420(scene(number)) for number in range(5)))
    video = open_moving_picture(path, size=(32, 16), fps=12)
    assert (len(video), video.width, video.height, video.fps, video.kind) == (5, 32, 16, 12, "i420")
    with pytest.raises(IndexError):
        video.frame(5)
    import cv2

    for number in (4, 0, 2):  # OpenCV's conversion, in fixed point, is the oracle
        stored = np.frombuffer(i420(scene(number)), np.uint8).reshape(24, 32)
        expected = cv2.cvtColor(stored, cv2.COLOR_YUV2RGB_I420).astype(int)
        assert np.abs(video.frame(number).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    "colours, down, across",
    [("", 2, 2), ("C420mpeg2", 2, 2), ("C422", 1, 2), ("C444", 1, 1), ("Cmono", 0, 0)],
)
def test_y4m_of_every_sampling_and_of_odd_sizes(tmp_path, colours, down, across):
    rng = np.random.default_rng(1)
    height, width = 7, 9
    luma = rng.integers(16, 236, (3, height, width), dtype=np.uint8)
    sides = (-(-height // down), -(-width // across)) if down else (0, 0)
    chroma = rng.integers(16, 241, (3, 2, *sides), dtype=np.uint8)
    frames = [b"FRAME\n" + y.tobytes() + c.tobytes() for y, c in zip(luma, chroma)]
    path = tmp_path / "clip.bin"
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F24000:1001 Ip {colours}\n".encode() + b"".join(frames))
    video = open_moving_picture(path)
    assert len(video) == 3 and video.fps == pytest.approx(23.976, abs=1e-3)
    shown = video.frame(1).astype(float)
    for row, column in ((0, 0), (6, 8), (3, 5)):
        y = (float(luma[1, row, column]) - 16) * 255 / 219
        b, r = 0.0, 0.0
        if down:
            b, r = (chroma[1, :, row // down, column // across].astype(float) - 128) * 255 / 224
        expected = [y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b]
        np.testing.assert_allclose(shown[row, column], np.clip(expected, 0, 255), atol=0.51)


def test_full_range_needs_no_stretching():
    grey = np.array([[0, 100, 255]], np.uint8)
    assert to_rgb(grey, None, None, full_range=True)[0, :, 1].tolist() == [0, 100, 255]
    assert to_rgb(grey, None, None)[0, :, 1].tolist() == [0, 98, 255]


def test_a_folder_is_read_in_the_natural_order_of_its_names(tmp_path):
    for number in (1, 2, 10):
        Image.fromarray(scene(number)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = open_moving_picture(tmp_path, fps=5)
    assert len(video) == 3 and video.fps == 5
    for place, number in enumerate((1, 2, 10)):
        assert np.array_equal(video.frame(place), scene(number))


def test_a_compressed_video_gives_its_frames_in_any_order(tmp_path):
    import imageio.v2 as imageio

    path = tmp_path / "clip.mp4"
    with imageio.get_writer(path, fps=12, quality=10, macro_block_size=16) as writer:
        for number in range(6):
            writer.append_data(scene(20 * number, 64, 48))
    video = open_moving_picture(path)
    assert (len(video), video.width, video.height, video.fps) == (6, 64, 48, 12)
    for number in (5, 0, 3):
        difference = video.frame(number).astype(float) - scene(20 * number, 64, 48)
        assert np.abs(difference).mean() < 12


def test_memory_does_not_grow_with_length(tmp_path):
    """A y4m of 200 MB is read to its end, in a process whose peak stays far below that."""
    path = tmp_path / "long.y4m"
    width, height, frames = 640, 480, 440
    frame = b"FRAME\n" + bytes(width * height * 3 // 2)
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F30:1\n".encode())
        for _ in range(frames):
            file.write(frame)
    program = (
        "import resource, sys\n"
        "from fieldstone.datasets.moving_picture import open_moving_picture\n"
        "video = open_moving_picture(sys.argv[1])\n"
        "video.frame(0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for number in range(0, len(video), 4): video.frame(number)\n"
        "print(len(video), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    count, grown_kb = map(int, done.stdout.split())
    assert count == frames and grown_kb < 40_000 < path.stat().st_size / 1024 / 4


def _wrong(tmp_path):
    """Name, what it holds, options, words of the message."""
    head = b"YUV4MPEG2 W8 H8 F30:1\n"
    whole = head + b"FRAME\n" + bytes(96)
    raw = {"size": (32, 16)}
    return [
        ("empty.mp4", b"", {}, "no frames"),
        ("empty.yuv", b"", raw, "no frames"),
        ("text.mp4", b"not a film" * 40, {}, "not a video"),
        ("broken.mp4", b"\0\0\0\x18ftypisom" + bytes(400), {}, "cannot be read"),
        ("raw.yuv", bytes(768), {}, "--size"),
        ("odd.yuv", bytes(768), {"size": (31, 16)}, "even"),
        ("rest.yuv", bytes(1000), raw, "1000 bytes"),
        ("none.y4m", head, {}, "no frames"),
        ("cut.y4m", whole[:-10], {}, "cut short"),
        ("deep.y4m", b"YUV4MPEG2 W8 H8 F30:1 C420p10\nFRAME\n" + bytes(192), {}, "8-bit"),
        ("wordless.y4m", b"YUV4MPEG2 H8\nFRAME\n", {}, "damaged"),
        ("sized.y4m", whole, raw, "--size"),
        ("fast.y4m", whole, {"fps": 0.0}, "--fps"),
    ]


def test_what_cannot_be_read_is_one_line(tmp_path):
    for name, data, options, words in _wrong(tmp_path):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError) as caught:
            open_moving_picture(tmp_path / name, **options)
        message = str(caught.value)
        assert words in message and "\n" not in message, (name, message)
    with pytest.raises(UserError, match="no such"):
        open_moving_picture(tmp_path / "nowhere.mp4")


def test_folders_that_are_no_video(tmp_path):
    with pytest.raises(UserError, match="no frames"):
        open_moving_picture(tmp_path)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 12)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="one size"):
        open_moving_picture(tmp_path)
    Image.new("RGBA", (20, 10)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="alpha"):
        open_moving_picture(tmp_path)


def test_a_frame_header_that_is_not_there(tmp_path):
    path = tmp_path / "clip.y4m"
    path.write_bytes(b"YUV4MPEG2 W8 H8 F30:1\n" + b"FRAME\n" + bytes(96) + b"FRAMX\n" + bytes(96))
    video = open_moving_picture(path)
    video.frame(0)
    with pytest.raises(UserError, match="frame 1 is not where"):
        video.frame(1)
