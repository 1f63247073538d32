"""What KITTI-360 knows beyond images and scans: accumulated clouds, classes, movers; each written here in the layout of kitti360Scripts."""

from __future__ import annotations

import shutil
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.readers.ply_vertices import read_vertices
from fieldstone.datasets.synthetic.street import LIDAR_HEIGHT, vehicle_poses
from fieldstone.datasets.synthetic.street_files import DRIVE, street_cameras

FRAMES, WIDTH, HEIGHT = 6, 64, 24
CAR, PERSON, BUILDING, ROAD = 26, 24, 11, 7
HEADER = """ply
format binary_little_endian 1.0
comment author Yiyi Liao
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
property int semantic
property int instance
property uchar isVisible
{more}property float confidence
end_header
"""


@pytest.fixture
def tree(street_tree, tmp_path):
    shutil.copytree(street_tree[0], tmp_path / "copy")
    return tmp_path / "copy"


def accumulated(points, semantic, instance, timestamp=None) -> bytes:
    """As kitti360Scripts unpacks it: =fffBBBiiBf, and =fffBBBiiBif for what moves."""
    more = "" if timestamp is None else "property int timestamp\n"
    out = [HEADER.format(count=len(points), more=more).encode()]
    for k, (point, s, i) in enumerate(zip(points, semantic, instance)):
        values = [*map(float, point), 10, 20, k % 256, int(s), int(i), 1]
        if timestamp is None:
            out.append(struct.pack("=fffBBBiiBf", *values, 0.9))
        else:
            out.append(struct.pack("=fffBBBiiBif", *values, timestamp, 0.9))
    return b"".join(out)


def put(path, data: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def wall(x0: float, x1: float, step: float = 0.2) -> np.ndarray:
    """Points of the street's left side, within sight."""
    x, z = np.meshgrid(np.arange(x0, x1, step), np.arange(0.2, 3, step))
    return np.stack([x.ravel(), np.full(x.size, 7.0), z.ravel()], 1)


def bounding_box(index: int, timestamp: int, centre, size, semantic: int = 13) -> str:
    """An object of data_3d_bboxes, its transform with the size in it and a unit cube's corners."""
    transform = np.eye(4)
    transform[:3, :3] = np.diag(size)
    transform[:3, 3] = centre
    cube = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])

    def matrix(name: str, values: np.ndarray) -> str:
        numbers = "\n    ".join(" ".join(f"{value:.8e}" for value in row) for row in values)
        return (
            f'<{name} type_id="opencv-matrix"><rows>{len(values)}</rows><cols>{values.shape[1]}</cols>'
            f"<dt>f</dt><data>\n    {numbers}</data></{name}>"
        )

    return (
        f"<object{index}><index>{index}</index><label>car</label><semanticId>{semantic}</semanticId>"
        f"<instanceId>3</instanceId><timestamp>{timestamp}</timestamp><dynamic>{int(timestamp >= 0)}</dynamic>"
        f"<start_frame>0</start_frame><end_frame>6</end_frame>{matrix('transform', transform)}"
        f"{matrix('vertices', cube)}{matrix('faces', np.zeros((2, 3)))}</object{index}>"
    )


def write_boxes(tree, *boxes: str) -> None:
    text = f'<?xml version="1.0"?>\n<opencv_storage>\n{"".join(boxes)}\n</opencv_storage>\n'
    put(tree / "data_3d_bboxes" / "train" / f"{DRIVE}.xml", text.encode())


def test_accumulated_clouds_are_used_with_their_classes(tree):
    static = tree / "data_3d_semantics" / "train" / DRIVE / "static"
    points = [wall(5, 20), wall(15, 30)]
    put(
        static / "0000000000_0000000003.ply",
        accumulated(points[0], [BUILDING] * len(points[0]), [BUILDING * 1000 + 1] * len(points[0])),
    )
    put(
        static / "0000000003_0000000004.ply",
        accumulated(points[1], [ROAD] * len(points[1]), [0] * len(points[1])),
    )
    put(static / "0000000900_0000001000.ply", b"never opened: no frame of ours is in it")
    capture = datasets.open(tree)
    both = np.concatenate(points)
    assert len(capture.points) == len(np.unique(both.round(3), axis=0))  # where windows overlap, once
    assert any("points from 2 accumulated clouds" in note for note in capture.notes)
    assert any("1 of 5 frames are in no accumulated cloud: 5" in note for note in capture.notes)
    assert capture.label_names[BUILDING] == "building" and "with labels" in "\n".join(capture.summary())
    first = capture.points[:, 0] < 14.9
    assert (capture.point_labels[first] == BUILDING).all() and (
        capture.point_labels[capture.points[:, 0] > 20.1] == ROAD
    ).all()
    assert capture.point_colours.shape == (len(capture.points), 3)
    # a point, its colour and its class stay together
    k = int(np.abs(both - capture.points[40]).sum(1).argmin())
    assert capture.point_colours[40].tolist()[:2] == [10, 20]
    assert capture.point_colours[40, 2] == (k if k < len(points[0]) else k - len(points[0])) % 256


def test_clouds_of_the_test_drives_have_no_classes(tree):
    points = wall(5, 20)
    header = HEADER.replace("property int semantic\nproperty int instance\n", "").replace(
        "{more}property float confidence\n", ""
    )
    data = header.format(count=len(points)).encode()
    data += b"".join(struct.pack("=fffBBBB", *map(float, point), 1, 2, 3, 1) for point in points)
    put(tree / "data_3d_semantics" / "test" / DRIVE / "static" / "0000000000_0000000010.ply", data)
    capture = datasets.open(tree)
    assert len(capture.points) == len(points) and capture.point_labels is None and capture.label_names == {}
    assert (capture.point_colours == [1, 2, 3]).all()


def test_what_is_far_from_every_camera_is_left_out(tree):
    static = tree / "data_3d_semantics" / "train" / DRIVE / "static" / "0000000000_0000000010.ply"
    near, far = wall(5, 20), wall(5, 20) + np.array([0, 500, 0])
    put(static, accumulated(np.concatenate([far, near]), [ROAD] * 2 * len(near), [0] * 2 * len(near)))
    assert len(datasets.open(tree).points) == len(near)
    put(static, accumulated(far, [ROAD] * len(far), [0] * len(far)))
    with pytest.raises(
        UserError, match=r"static: \d+ points in 1 accumulated clouds, none within 80 m of a camera"
    ):
        datasets.open(tree)
    whole = accumulated(near, [ROAD] * len(near), [0] * len(near))
    put(static, whole[:-9])
    with pytest.raises(UserError, match=r"\d+ bytes, \d+ are needed for \d+ vertices; the file is cut short"):
        datasets.open(tree)


def test_boxes_of_movers_mask_images_and_scans(tree):
    frame, centre, size = 3, [14.0, -1.0, 0.8], [4.0, 1.8, 1.7]
    write_boxes(
        tree,
        bounding_box(1, frame, centre, size),
        bounding_box(2, -1, [12.0, -3.0, 0.8], size),  # stands
        bounding_box(3, 2, centre, size),  # a frame without pose
    )
    # returns from inside the box, in the scan of its frame and in one of another frame
    scans = tree / "data_3d_raw" / DRIVE / "velodyne_points" / "data"
    capture = datasets.open(tree)
    before = len(capture.points)
    assert any("movers are masked in 2 images" in note for note in capture.notes)
    index = capture.names.index("image_00/0000000003.png")
    camera = street_cameras(FRAMES, WIDTH, HEIGHT)[frame]
    (pixel,), _ = camera.project(torch.tensor([centre]).double(), torch.tensor([0]))
    mask = capture.masks[index]
    assert not mask[int(pixel[1]), int(pixel[0])] and mask[0].all() and 0.7 < mask.mean() < 0.99
    assert capture.masks[capture.names.index("image_00/0000000004.png")].all()
    assert capture.masks[capture.names.index("image_01/0000000003.png")].mean() < 0.99
    # the scanner of frame 3 stands at the ground's pose and looks along x
    pose = vehicle_poses(FRAMES)[frame]
    spots = np.array(
        [[14.0 + dx, -1.0 + dy, 0.9] for dx in np.arange(-1, 1, 0.15) for dy in (-0.3, 0.0, 0.3)]
    )
    local = (spots - pose[:3, 3]) @ pose[:3, :3] - [0.77, 0, LIDAR_HEIGHT]
    scan = np.column_stack([local, np.zeros(len(local))]).astype("<f4").tobytes()

    def dropped(capture) -> int:
        (note,) = [note for note in capture.notes if "scanned points in boxes of movers" in note]
        return int(note.split()[0])

    for number, in_box in ((3, len(spots)), (4, 0)):
        file = scans / f"{number:010d}.bin"
        stored = file.read_bytes()
        file.write_bytes(stored + scan)
        after = datasets.open(tree)
        assert dropped(after) == dropped(capture) + in_box
        assert (len(after.points) > before) is (in_box == 0)
        file.write_bytes(stored)


def test_people_and_moving_instances_are_masked_by_their_pixels(tree):
    pictures = tree / "data_2d_semantics" / "train" / DRIVE / "image_00"
    semantic = np.asarray(Image.open(pictures / "semantic" / "0000000001.png")).copy()
    semantic[4:8, 10:14] = PERSON
    Image.fromarray(semantic).save(pictures / "semantic" / "0000000001.png")
    capture = datasets.open(tree)
    index = capture.names.index("image_00/0000000001.png")
    assert (~capture.masks[index]).sum() == 16 and not capture.masks[index][4:8, 10:14].any()
    assert any("movers are masked in 1 images" in note for note in capture.notes)
    # an instance that the dynamic cloud lists, beside a car that stands
    moving = accumulated([[8, 0, 1.0]], [CAR], [CAR * 1000 + 7], timestamp=1)
    put(tree / "data_3d_semantics" / "train" / DRIVE / "dynamic" / "0000000000_0000000010.ply", moving)
    instances = np.full((HEIGHT, WIDTH), BUILDING * 1000, np.uint16)
    instances[10:12, 20:30], instances[14:16, 20:30] = CAR * 1000 + 7, CAR * 1000 + 8
    for number in (0, 1):
        (pictures / "instance").mkdir(exist_ok=True)
        Image.fromarray(instances).save(pictures / "instance" / f"{number:010d}.png")
    capture = datasets.open(tree)
    mask = capture.masks[index]
    assert (~mask).sum() == 36 and not mask[10:12, 20:30].any() and mask[14:16, 20:30].all()
    assert any("movers are masked in 2 images" in note for note in capture.notes)


def test_bad_boxes(tree):
    write_boxes(tree, bounding_box(1, 3, [14, 0, 1], [4, 2, 2]).replace("<rows>8</rows>", "<rows>9</rows>"))
    with pytest.raises(UserError, match=r"object 1: vertices: 24 numbers, 27 finite ones are needed"):
        datasets.open(tree)
    put(tree / "data_3d_bboxes" / "train" / f"{DRIVE}.xml", b"<opencv_storage><object1>")
    with pytest.raises(UserError, match="not readable as XML"):
        datasets.open(tree)


def test_empty_scans_are_counted_and_a_drive_of_them_is_refused(tree):
    scans = sorted((tree / "data_3d_raw" / DRIVE / "velodyne_points" / "data").glob("*.bin"))
    scans[0].write_bytes(b"")
    assert any(
        "1 of 5 scans have no point between 2.5 and 80 m" in note for note in datasets.open(tree).notes
    )
    for scan in scans:
        scan.write_bytes(b"")
    with pytest.raises(UserError, match=r"5 scans without a point between 2\.5 and 80 m that has neighbours"):
        datasets.open(tree)


def test_ply_vertices_of_every_kind(tmp_path):
    path = tmp_path / "a.ply"
    header = "ply\nformat {} 1.0\nelement vertex 2\nproperty double x\nproperty float32 y\nproperty float z\nproperty ushort tag\n"
    header += "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_bytes(
        header.format("binary_big_endian").encode() + struct.pack(">dffHdffH", 1.5, 2, 3, 7, 4.5, 5, 6, 65535)
    )
    stored = read_vertices(path)
    assert stored["x"].tolist() == [1.5, 4.5] and stored["tag"].tolist() == [7, 65535]
    path.write_text(header.format("ascii") + "1.5 2 3 7\n4.5 5 6 65535\n")
    assert read_vertices(path)["tag"].tolist() == [7, 65535]
    for text, says in (
        (header.format("ascii") + "1.5 2 3 7\n", "1 of 2 vertices"),
        (header.format("ascii") + "1.5 2 three 7\n4.5 5 6 65535\n", "vertices cannot be read"),
        (header.format("ascii").replace("property float z\n", ""), "vertices have no z"),
        (header.format("ascii").replace("ushort", "list uchar"), "is not read; needed: one number"),
        (header.format("gzip"), "has no format"),
        ("plywood", "no .ply header"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=says):
            read_vertices(path)
