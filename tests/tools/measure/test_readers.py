"""Point-cloud files: what goes in comes out, whatever the format; damage and hostility are bad input, never anything else."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.__main__ import main
from fieldstone.core.errors import UserError
from fieldstone.tools.measure import Cloud, read, write_ply
from fieldstone.tools.measure.readers.lzf import decompress, decompress_reference
from fieldstone.tools.measure.units import conversion, parse_unit, suggestion

POINTS = np.random.default_rng(0).uniform(-50, 50, (200, 3)).astype(np.float32).astype(np.float64)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
COLOURS = np.random.default_rng(1).integers(0, 256, (200, 3), dtype=np.uint8)


# ------------------------------------------------------------------------------------------- writers for the tests


def ply(order: str) -> bytes:
    name = {"<": "binary_little_endian", ">": "binary_big_endian", "a": "ascii"}[order]
    header = (
        f"ply\nformat {name} 1.0\ncomment unit mm\nelement camera 1\nproperty list uchar int view\nelement vertex 200\n"
        "property float x\nproperty float y\nproperty double z\nproperty float nx\nproperty float ny\nproperty float nz\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if order == "a":
        rows = [
            f"{x!r} {y!r} {z!r} {n[0]!r} {n[1]!r} {n[2]!r} {c[0]} {c[1]} {c[2]}"
            for (x, y, z), n, c in zip(POINTS.tolist(), NORMALS.tolist(), COLOURS)
        ]
        return (header + "2 7 8\n" + "\n".join(rows) + "\n3 0 1 2\n").encode()
    body = struct.pack(order + "Bii", 2, 7, 8)
    for p, n, c in zip(POINTS, NORMALS, COLOURS):
        body += struct.pack(order + "ffdfffBBB", *p, *n, *(int(v) for v in c))
    return header.encode() + body + struct.pack(order + "Biii", 3, 0, 1, 2)


def lzf_compress(data: bytes) -> bytes:
    """A plain LZF stream: runs of literals, and a back reference wherever eight bytes repeat the eight before them."""
    out, i, literals = bytearray(), 0, bytearray()

    def flush():
        nonlocal literals
        for k in range(0, len(literals), 32):
            out.append(len(literals[k : k + 32]) - 1)
            out.extend(literals[k : k + 32])
        literals = bytearray()

    while i < len(data):
        if i >= 8 and data[i : i + 8] == data[i - 8 : i] and i + 8 <= len(data):
            flush()
            out += bytes([(6 << 5) | 0, 7])  # length 8, offset 8
            i += 8
        else:
            literals.append(data[i])
            i += 1
    flush()
    return bytes(out)


def pcd(mode: str, *, width=200, height=1, points=POINTS, viewpoint="0 0 0 1 0 0 0") -> bytes:
    packed = (COLOURS.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)).astype("<u4").view("<f4")
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb normal_x normal_y normal_z _\nSIZE 4 4 4 4 4 4 4 1\nTYPE F F F F F F F U\n"
        f"COUNT 1 1 1 1 1 1 1 3\nWIDTH {width}\nHEIGHT {height}\nVIEWPOINT {viewpoint}\nPOINTS {width * height}\nDATA {mode}\n"
    ).encode()
    fields = [*points.astype("<f4").T, packed, *NORMALS.astype("<f4").T]
    if mode == "ascii":
        rows = [" ".join([*(repr(float(f[i])) for f in fields), "0 0 0"]) for i in range(len(points))]
        return header + "\n".join(rows).encode() + b"\n"
    pad = np.zeros((len(points), 3), "u1")
    if mode == "binary":
        dtype = np.dtype([(f"f{i}", "<f4") for i in range(7)] + [("pad", "u1", (3,))])
        rows = np.zeros(len(points), dtype)
        for i, f in enumerate(fields):
            rows[f"f{i}"] = f
        return header + rows.tobytes()
    raw = b"".join(np.ascontiguousarray(f, "<f4").tobytes() for f in fields) + pad.tobytes()
    packed_bytes = lzf_compress(raw)
    return header + struct.pack("<II", len(packed_bytes), len(raw)) + packed_bytes


FILES = {
    "ascii.ply": lambda: ply("a"),
    "little.ply": lambda: ply("<"),
    "big.ply": lambda: ply(">"),
    "ascii.pcd": lambda: pcd("ascii"),
    "binary.pcd": lambda: pcd("binary"),
    "compressed.pcd": lambda: pcd("binary_compressed"),
    "plain.xyz": lambda: "\n".join(" ".join(repr(v) for v in p) for p in POINTS.tolist()).encode(),
    "named.csv": lambda: ("x [mm],y [mm],z [mm],nx,ny,nz,red,green,blue\n" + "\n".join(
        ",".join(repr(v) for v in [*p, *n, *c]) for p, n, c in zip(POINTS.tolist(), NORMALS.tolist(), COLOURS.tolist()))).encode(),
    "comma.txt": lambda: "\n".join(";".join(repr(v).replace(".", ",") for v in p) for p in POINTS.tolist()).encode(),
    "count.pts": lambda: (f"{len(POINTS)}\n" + "\n".join("\t".join(repr(v) for v in p) for p in POINTS.tolist())).encode(),
}  # fmt: skip
RICH = ("ply", "pcd", "csv")


@pytest.mark.parametrize("name", FILES)
def test_what_is_in_the_file_is_in_the_cloud(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    cloud = read(path)
    np.testing.assert_allclose(cloud.world_points, POINTS, rtol=1e-7)
    assert cloud.points.dtype == np.float64
    assert cloud.unit == ("mm" if name.endswith(("ply", "csv")) else None)
    assert len(cloud.sha256) == 64 and cloud.source == path
    if name.endswith(RICH):
        np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)
        np.testing.assert_array_equal(cloud.colours, COLOURS)


def test_our_ply_comes_back_as_it_was(tmp_path):
    rng = np.random.default_rng(2)
    points = rng.normal(size=(50, 3)) + np.array([1e6, 0, 0])
    cloud = Cloud.from_points(points, "um", normals=NORMALS[:50], colours=COLOURS[:50], sigma=rng.random(50))
    write_ply(tmp_path / "a.ply", cloud)
    again = read(tmp_path / "a.ply")
    np.testing.assert_array_equal(again.world_points, cloud.world_points)
    np.testing.assert_allclose(again.sigma, cloud.sigma, rtol=1e-6)
    np.testing.assert_array_equal(again.colours, cloud.colours)
    assert again.unit == "um" and again.origin[0] == 1e6


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    np.savez(tmp_path / "b.npz", points=POINTS, normals=NORMALS, sigma=np.ones(200))
    np.save(tmp_path / "c.npy", np.hstack([POINTS, NORMALS]))
    structured = np.zeros(200, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    for i, axis in enumerate("xyz"):
        structured[axis] = POINTS[:, i]
    np.save(tmp_path / "d.npy", structured)
    for name in ("a.npy", "b.npz", "c.npy", "d.npy"):
        np.testing.assert_allclose(read(tmp_path / name).world_points, POINTS, rtol=1e-7)
    assert read(tmp_path / "b.npz").sigma is not None
    np.testing.assert_allclose(read(tmp_path / "c.npy").normals, NORMALS, atol=1e-9)
    np.save(tmp_path / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="not a NumPy file of plain numbers"):
        read(tmp_path / "e.npy")


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_las(tmp_path, suffix):
    laspy = pytest.importorskip("laspy")
    las = laspy.create(point_format=2, file_version="1.2")
    las.header.scales, las.header.offsets = [1e-4] * 3, [500000.0, 0, 0]
    las.x, las.y, las.z = (POINTS + np.array([500000.0, 0, 0])).T
    las.red, las.green, las.blue = (COLOURS.astype(np.uint16) << 8).T
    las.write(tmp_path / f"a.{suffix}")
    cloud = read(tmp_path / f"a.{suffix}", unit="m")
    np.testing.assert_allclose(cloud.world_points, POINTS + np.array([500000.0, 0, 0]), atol=6e-5)
    np.testing.assert_array_equal(cloud.colours, COLOURS)
    assert any("quantised to 0.0001" in w for w in cloud.warnings)
    (tmp_path / f"b.{suffix}").write_bytes((tmp_path / f"a.{suffix}").read_bytes()[:150])
    with pytest.raises(UserError, match="laspy cannot read it"):
        read(tmp_path / f"b.{suffix}")


def test_e57_poses_are_applied(tmp_path):
    pye57 = pytest.importorskip("pye57")
    path = tmp_path / "a.e57"
    file = pye57.E57(str(path), mode="w")
    data = {f"cartesian{axis}": POINTS[:, i].copy() for i, axis in enumerate("XYZ")}
    half = np.sqrt(0.5)
    file.write_scan_raw(data, rotation=np.array([half, 0, 0, half]), translation=np.array([1.0, 2.0, 3.0]))
    file.close()
    cloud = read(path)
    turned = np.column_stack([-POINTS[:, 1], POINTS[:, 0], POINTS[:, 2]]) + np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(cloud.world_points, turned, atol=1e-5)
    assert cloud.unit == "m"
    (tmp_path / "b.e57").write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="pye57 cannot read it"):
        read(tmp_path / "b.e57")


@pytest.mark.parametrize("suffix", ["stl", "obj"])
def test_meshes_are_sampled_evenly(tmp_path, suffix):
    trimesh.creation.box((10, 20, 30)).export(tmp_path / f"a.{suffix}")
    cloud = read(tmp_path / f"a.{suffix}", unit="mm", samples=20_000)
    points = cloud.world_points
    on = np.isclose(np.abs(points), [5, 10, 15], atol=1e-9)
    assert on.any(axis=1).all()
    share = on.mean(axis=0)
    np.testing.assert_allclose(share, np.array([600, 300, 200]) / 1100, atol=0.015)
    np.testing.assert_allclose(
        np.abs(cloud.normals[on[:, 0] & ~on[:, 1] & ~on[:, 2]]).mean(axis=0), [1, 0, 0], atol=1e-9
    )
    again = read(tmp_path / f"a.{suffix}", unit="mm", samples=20_000)
    np.testing.assert_array_equal(points, again.world_points)


# -------------------------------------------------------------------------------------------------- what is removed


def test_points_that_are_none_are_removed_and_counted(tmp_path):
    bad = POINTS.copy()
    bad[3], bad[7, 1], bad[9] = np.nan, np.inf, bad[8]
    np.save(tmp_path / "a.npy", bad)
    cloud = read(tmp_path / "a.npy", unit="mm")
    assert len(cloud) == 197
    assert "2 points without finite coordinates removed" in cloud.warnings
    assert "1 points that repeat another exactly removed" in cloud.warnings


def test_zeros_of_an_organised_cloud_are_removed_and_its_pixels_kept(tmp_path):
    image = POINTS.reshape(10, 20, 3).copy()
    image[2, 3] = image[9, 19] = 0
    np.save(tmp_path / "a.npy", image)
    cloud = read(tmp_path / "a.npy", unit="mm")
    assert "2 points at exactly (0, 0, 0) removed" in cloud.warnings
    assert cloud.shape == (10, 20) and len(cloud.pixels) == 198
    np.testing.assert_array_equal(image.reshape(-1, 3)[cloud.pixels], cloud.world_points)
    flat = np.vstack([POINTS, np.zeros((1, 3))])  # a plain list may hold its frame's zero
    np.save(tmp_path / "b.npy", flat)
    assert len(read(tmp_path / "b.npy")) == 201
    (tmp_path / "c.pcd").write_bytes(pcd("binary", width=20, height=10))
    assert read(tmp_path / "c.pcd").shape == (10, 20)


def test_a_viewpoint_is_reported_not_applied(tmp_path):
    (tmp_path / "a.pcd").write_bytes(pcd("binary", viewpoint="1 2 3 1 0 0 0"))
    cloud = read(tmp_path / "a.pcd")
    np.testing.assert_allclose(cloud.world_points, POINTS, rtol=1e-6)
    assert any("VIEWPOINT" in w and "not applied" in w for w in cloud.warnings)


# ------------------------------------------------------------------------------------------------------------ units


def test_units_by_many_names_and_what_an_extent_suggests():
    for text, unit in (
        ("Millimetres", "mm"),
        ("in", "inch"),
        ("microns", "um"),
        ("Metre", "m"),
        ("INCHES", "inch"),
        ("µm", "um"),
    ):
        assert parse_unit(text) == unit
    assert conversion("inch", "mm") == pytest.approx(25.4)
    assert "65 mm if m" in suggestion(0.065)
    assert "no usual unit" in suggestion(1e12)
    with pytest.raises(UserError, match="'ell' is not known"):
        parse_unit("ell")


def test_a_cloud_without_unit_says_so_and_a_contradiction_is_told(tmp_path, capsys):
    (tmp_path / "a.xyz").write_bytes(FILES["plain.xyz"]())
    assert main(["measure", "info", str(tmp_path / "a.xyz"), "--json", str(tmp_path / "o.json")]) == 0
    document = json.loads((tmp_path / "o.json").read_text())
    assert document["unit"] is None and any(
        "unit not known: the part spans" in w for w in document["warnings"]
    )
    (tmp_path / "a.ply").write_bytes(ply("<"))
    cloud = read(tmp_path / "a.ply", unit="inch")
    assert cloud.unit == "inch" and any("says its unit is mm" in w for w in cloud.warnings)
    with pytest.raises(UserError, match="no unit to convert from"):
        read(tmp_path / "a.xyz").to_unit("mm")


# ---------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", FILES)
def test_every_cut_is_bad_input_or_a_shorter_cloud(tmp_path, name):
    data = FILES[name]()
    path = tmp_path / name
    for part in np.linspace(0, 0.98, 23):
        path.write_bytes(data[: int(len(data) * part)])
        try:
            cloud = read(path)
        except UserError as error:
            assert name in str(error)
        else:  # text without a count cannot know
            assert name.endswith(("xyz", "csv", "txt", "pts")) or (name.endswith("ply") and part > 0.9)
            assert np.isfinite(cloud.points).all()


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 1 << 30))
def test_flipped_bytes_never_raise_anything_else(tmp_path_factory, name, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(FILES[name]())
    for at in rng.integers(0, min(len(data), 700 if seed % 2 else len(data)), 6):
        data[at] = rng.integers(0, 256)
    path = tmp_path_factory.mktemp("flip") / name
    path.write_bytes(data)
    try:
        assert np.isfinite(read(path).points).all()
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n",
            "more than the",
        ),
        ("a.ply", ply("<").replace(b"vertex 200", b"vertex 201", 1), "cut short"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\nend_header\n1 2\n",
            "property twice",
        ),
        ("a.ply", b"solid nonsense", "not a PLY file"),
        ("a.pcd", pcd("binary").replace(b"POINTS 200", b"POINTS 300"), "does not give POINTS 300"),
        ("a.pcd", pcd("binary").replace(b"COUNT 1", b"COUNT 99999", 1), "out of range"),
        ("a.pcd", pcd("binary").replace(b"DATA binary", b"DATA zipped"), "kind 'zipped'"),
        ("a.xyz", b"1 2 3\n4 5\n", "line 2 has 2 columns"),
        ("a.xyz", b"1 2 3\n4 five 6\n", "line 2 is"),
        ("a.xyz", b"", "no rows of at least three numbers"),
        ("a.csv", b"a,b,c\n1,2,3\n", "x, y and z are needed"),
        ("a.stl", b"solid x\nendsolid x\n", "trimesh cannot read it|no usable point|no area"),
        ("a.npz", b"PK\x03\x04nothing", "not a NumPy file"),
        ("a.docx", b"x", "not a known format"),
    ],
)
def test_hostile_headers_are_refused_with_the_reason(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert main(["measure", "info", str(path)]) == 2


def test_a_missing_file_is_bad_input(tmp_path):
    assert main(["measure", "plane", str(tmp_path / "none.ply")]) == 2


@given(st.binary(max_size=300))
def test_lzf_round_trip_and_reference(data):
    packed = lzf_compress(data)
    assert decompress(packed, len(data)) == data
    assert decompress_reference(packed, len(data)) == data


@given(st.binary(max_size=80), st.integers(0, 200))
def test_damaged_lzf_is_refused_alike(data, size):
    assert decompress(data, size) == decompress_reference(data, size)
