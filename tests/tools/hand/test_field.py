"""The method "hand": a small capture, trained a little, shown in poses it has not seen."""

import json

import numpy as np
import pytest
from PIL import Image

from fieldstone.__main__ import main
from fieldstone.datasets.formats import open_capture
from fieldstone.tools.api import train_scene
from fieldstone.tools.hand.result import read_result, write_result
from fieldstone.tools.hand.synthetic_capture import write_hand_capture


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures") / "hand"
    write_hand_capture(folder, "hand", poses=4, test_poses=1, views=4, size=48, seed=3)
    return folder


@pytest.fixture(scope="module")
def run(capture):
    settings = {"rays": 1024, "resolution": 48, "log2_table_size": 14, "levels": 8, "finest_resolution": 128}
    return train_scene(
        capture, capture.parent / "run", steps=80, method="hand", settings=settings, quiet=True
    )


def box_error(scene, capture, index: int) -> float:
    """Mean squared error where the hand's box is in a picture, on white."""
    image = np.asarray(capture.images[index], np.float32)
    colour, alpha = image[..., :3], image[..., 3:]
    shown = scene.render_view(capture.cameras, index, background="white")["colour"].numpy()
    rows, columns = np.nonzero(alpha[..., 0] > 0)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    return float(np.square(shown - (colour * alpha + 1 - alpha))[box].mean())


def test_the_capture_tells_its_poses(capture):
    opened, truth = open_capture(capture), read_result(capture / "hand.npz")
    assert len(truth.pose) == 4 and truth.info["test_poses"] == [3]
    times = np.round(np.asarray(opened.times) * 3).astype(int)
    assert set(times[opened.splits["train"]]) == {0, 1, 2} and 3 in times[opened.splits["test"]]
    alpha = np.asarray(opened.images[0])[..., 3]
    assert 0.1 < (alpha > 0.5).mean() < 0.8


def test_new_poses_are_rendered_well_after_little_training(run):
    capture, scene = run.capture(), run.scene()
    times = np.round(np.asarray(capture.times) * 3).astype(int)
    new = [index for index in capture.splits["test"] if times[index] == 3]
    assert len(new) == 4
    psnr = -10 * np.log10(np.mean([box_error(scene, capture, index) for index in new]))
    assert psnr > 17
    # the wrong pose is worse: what is seen is the pose, not an average
    scene.pose = 1
    wrong = -10 * np.log10(np.mean([box_error(scene, capture, index) for index in new]))
    assert wrong < psnr - 3


def test_a_run_shows_motions_of_others(run, capture, tmp_path, capsys):
    motion = read_result(capture / "hand.npz")
    motion.model, motion.pose, motion.translation = "hand", motion.pose[[3, 0]], motion.translation[[3, 0]]
    motion.shape = np.zeros(10)  # the run keeps its own
    write_result(tmp_path / "motion.npz", motion)
    out = tmp_path / "frames"
    motion_file = str(tmp_path / "motion.npz")
    arguments = ["--path", "orbit", "--frames", "3", "--width", "48", "--out", str(out)]
    assert main(["render-views", str(run.folder), "--motion", motion_file, *arguments]) == 0
    frames = sorted(out.iterdir())
    assert len(frames) == 3 and np.asarray(Image.open(frames[0]), np.float32).std() > 10
    scene, opened = run.scene(), run.capture()
    assert scene.show_motion(tmp_path / "motion.npz") == 2
    shown = scene.render_view(opened.cameras[:1], 0)["colour"]
    scene.shown, scene.pose = None, 3
    # another cube around other poses, so other steps along the rays: the same picture but for that
    same = scene.render_view(opened.cameras[:1], 0)["colour"]
    scene.pose = 1
    other = scene.render_view(opened.cameras[:1], 0)["colour"]
    assert (shown - same).abs().mean() < 0.2 * (shown - other).abs().mean()
    motion.model, motion.model_sha256 = "body", ""
    write_result(tmp_path / "other.npz", motion)
    capsys.readouterr()
    assert (
        main(
            [
                "render-views",
                str(run.folder),
                "--motion",
                str(tmp_path / "other.npz"),
                "--out",
                str(out) + "2",
            ]
        )
        == 2
    )
    assert capsys.readouterr().err.count("\n") == 1


def test_a_capture_without_poses_says_what_is_missing(capture, tmp_path, capsys):
    document = json.loads((capture / "transforms.json").read_text())
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    (tmp_path / "images").symlink_to(capture / "images")
    assert (
        main(["train-scene", str(tmp_path), "--method", "hand", "--steps", "2", "--out", str(tmp_path / "r")])
        == 2
    )
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("fieldstone: error:") and "no hand.npz" in last
