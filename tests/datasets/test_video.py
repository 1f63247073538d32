"""Sharp frames are taken from a video the test writes; what is no video is refused in one line."""

import subprocess

import numpy as np
import pytest

from fieldstone.core.errors import UserError
from fieldstone.datasets import video


def texture(shift: int) -> np.ndarray:
    """(96, 128, 3) uint8 fine random blocks, moved to the left by `shift` pixels."""
    blocks = np.random.default_rng(3).integers(0, 256, (24, 64, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:, shift : shift + 128]


@pytest.fixture(scope="module")
def shaky(tmp_path_factory):
    """A clip of 24 frames in which only numbers 2, 9, 12 and 21 are in focus."""
    import cv2
    import imageio.v2 as imageio

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with imageio.get_writer(path, fps=12, quality=9, macro_block_size=16) as writer:
        for number in range(24):
            frame = texture(number)
            writer.append_data(frame if number in (2, 9, 12, 21) else cv2.GaussianBlur(frame, (0, 0), 3))
    return path


def test_the_sharpest_frame_of_each_stretch_is_taken(shaky, tmp_path):
    from PIL import Image

    said = []
    folder = video.extract_frames(shaky, tmp_path, count=4, report=said.append)
    names = sorted(entry.name for entry in folder.glob("*.jpg"))
    assert names == [f"frame_{number:06d}.jpg" for number in (2, 9, 12, 21)]
    assert folder == tmp_path / "frames" and "4 sharpest of 24" in said[0]
    frame = np.asarray(Image.open(folder / "frame_000012.jpg")).astype(float)
    assert frame.shape == (96, 128, 3)
    assert np.abs(frame - texture(12)).mean() < 15 < np.abs(frame - texture(2)).mean()


def test_frames_are_kept_until_the_video_or_the_count_changes(shaky, tmp_path):
    folder = video.extract_frames(shaky, tmp_path, count=4, report=print)
    before = {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()}
    assert video.extract_frames(shaky, tmp_path, count=4, report=pytest.fail) == folder
    assert before == {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()}
    video.extract_frames(shaky, tmp_path, count=3)
    assert len(list(folder.glob("*.jpg"))) == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["frames"]


def test_more_frames_than_the_video_has_gives_all_of_them(shaky, tmp_path):
    assert len(list(video.extract_frames(shaky, tmp_path, count=500).glob("*.jpg"))) == 24


def test_without_a_workspace_the_frames_lie_beside_the_video(shaky):
    assert video.extract_frames(shaky, count=2) == shaky.parent / "clip_frames" / "frames"


def test_frames_are_turned_as_the_phone_was_held(shaky, tmp_path):
    import imageio_ffmpeg
    from PIL import Image

    turned = tmp_path / "turned.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", shaky]
    subprocess.run([*command, "-c", "copy", turned], check=True)
    folder = video.extract_frames(turned, tmp_path, count=4)
    frame = np.asarray(Image.open(folder / "frame_000012.jpg")).astype(float)
    assert frame.shape == (128, 96, 3)
    assert np.abs(frame - np.rot90(texture(12))).mean() < 15


def test_a_video_is_known_by_its_content(shaky, tmp_path):
    renamed = tmp_path / "holiday.txt"
    renamed.write_bytes(shaky.read_bytes())
    text = tmp_path / "film.mp4"
    text.write_text("not a film, whatever the name says" * 20)
    still = tmp_path / "photo.heic"
    still.write_bytes(b"\0\0\0\x18ftypheic" + bytes(400))
    assert video.is_video(renamed)
    assert not video.is_video(text) and not video.is_video(still) and not video.is_video(tmp_path / "absent")


@pytest.mark.parametrize("kept", [100, 1000], ids=["header only", "cut short"])
def test_a_damaged_video_is_one_clear_line_and_leaves_nothing(shaky, tmp_path, kept):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(shaky.read_bytes()[:kept])
    assert video.is_video(cut)
    with pytest.raises(UserError, match=r"cut\.mp4: .*(cannot be read|frames)") as caught:
        video.extract_frames(cut)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["cut.mp4"]


def test_a_single_frame_is_too_short(tmp_path):
    import imageio.v2 as imageio

    path = tmp_path / "one.mp4"
    imageio.mimwrite(path, [texture(0)], macro_block_size=16)
    with pytest.raises(UserError, match="1 readable frames"):
        video.extract_frames(path)
