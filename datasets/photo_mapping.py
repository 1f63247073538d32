"""From matched photos to posed ones: COLMAP's database, its mappers, and the largest part that fits together."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .photo_features import PhotoFeatures

__all__ = [
    "best_model",
    "colour_points",
    "map_photos",
    "placed",
    "refine_principal_point",
    "turn_upright",
    "verify",
    "write_database",
]

MANY_PHOTOS = 12
"""A lens with at least this many photos gets COLMAP's OPENCV model, one with fewer SIMPLE_RADIAL, whose one
distortion parameter few photos can settle."""
NEEDED_MATCHES = 30
"""Points a photo must share with the model (COLMAP's abs_pose_min_num_inliers); `RELAXED_MATCHES` when retried."""
RELAXED_MATCHES = 15


def write_database(
    path: Path,
    photos: list[PhotoFeatures],
    matches: Iterable[tuple[int, int, np.ndarray]],  # i, j, (m, 2) feature indices
) -> None:
    """A COLMAP database with one camera per lens and image ids 1 ... n in the order of `photos`."""
    import pycolmap

    lenses: dict[str, list[PhotoFeatures]] = {}
    for photo in photos:
        lenses.setdefault(photo.lens, []).append(photo)
    with pycolmap.Database.open(path) as database:
        with pycolmap.DatabaseTransaction(database):
            cameras = {}
            for lens, group in lenses.items():
                model = "OPENCV" if len(group) >= MANY_PHOTOS else "SIMPLE_RADIAL"
                first = group[0]
                camera = pycolmap.Camera.create_from_model_name(
                    len(cameras) + 1, model, first.focal, first.width, first.height
                )
                camera.has_prior_focal_length = first.focal_known
                camera.camera_id = database.write_camera(camera)
                rig = pycolmap.Rig()
                rig.add_ref_sensor(camera.sensor_id)
                rig.rig_id = database.write_rig(rig)
                cameras[lens] = camera, rig
            for number, photo in enumerate(photos, 1):
                camera, rig = cameras[photo.lens]
                image = pycolmap.Image(name=photo.name, camera_id=camera.camera_id, image_id=number)
                database.write_image(image, use_image_id=True)
                frame = pycolmap.Frame()
                frame.rig_id = rig.rig_id
                frame.add_data_id(image.data_id)
                database.write_frame(frame)
                database.write_keypoints(number, photo.keypoints)
                described = pycolmap.FeatureDescriptors()
                described.type = pycolmap.FeatureExtractorType.SIFT
                described.data = photo.descriptors
                database.write_descriptors(number, described)
        with pycolmap.DatabaseTransaction(database):
            for i, j, pairs in matches:
                database.write_matches(i + 1, j + 1, pairs.astype(np.uint32))


def verify(database: Path, threads: int, seed: int) -> None:
    """Keeps the matches of each pair that one epipolar geometry or homography explains (COLMAP)."""
    import pycolmap

    options = pycolmap.GeometricVerifierOptions()
    options.num_threads = threads
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = seed
    pycolmap.geometric_verification(database, options, two_view_geometry_options=geometry)


def map_photos(
    database: Path,
    folder: Path,  # the mapper writes here; emptied first
    count: int,  # photos in the database
    *,
    threads: int,
    seed: int,
    mapper: str = "incremental",  # COLMAP's, or "global" (GLOMAP)
    start: object | None = None,  # a reconstruction to add photos to, with half the matches asked for
) -> list:
    """The reconstructions that a verified database gives, each of photos that fit together, often one."""
    import pycolmap

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if mapper == "global":
        return list(_global(pycolmap, database, folder, threads, seed).values())
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = threads
    options.random_seed = seed
    options.extract_colors = False  # `colour_points` knows them already
    options.min_model_size = min(3, count)
    options.mapper.random_seed = seed
    options.triangulation.random_seed = seed
    options.mapper.abs_pose_min_num_inliers = NEEDED_MATCHES
    given = ""
    if start is not None:
        options.multiple_models = False
        options.mapper.abs_pose_min_num_inliers = RELAXED_MATCHES
        options.mapper.abs_pose_min_inlier_ratio = 0.1
        given = folder / "start"
        given.mkdir()
        start.write(given)
    # the callback is entered for every photo, which is where Python sees Ctrl-C
    placed = pycolmap.incremental_mapping(
        database, folder, folder, options, input_path=given, next_image_callback=lambda: None
    )
    return list(placed.values())


def best_model(models: list) -> object | None:
    """The reconstruction with most photos, or None."""
    return max(models, key=placed, default=None)


def refine_principal_point(model, threads: int) -> object:
    """`model` adjusted once more with the principal points free, or as it was.

    While photos are being placed the principal point stays in the middle, where it is off by a few pixels on
    phones; what is left of that in the poses goes away. Needs many photos per lens, or it drifts: only done if
    every lens has `MANY_PHOTOS`, and only kept if no principal point leaves the middle tenth of its image.
    """
    import pycolmap

    photos = [model.image(i).camera_id for i in model.reg_image_ids()]
    if any(photos.count(identity) < MANY_PHOTOS for identity in set(photos)):
        return model
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.print_summary = False
    options.ceres.use_gpu = False
    options.ceres.solver_options.num_threads = threads
    refined = pycolmap.Reconstruction(model)
    config = pycolmap.BundleAdjustmentConfig()
    for i in refined.reg_image_ids():
        config.add_image(i)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    # not pycolmap.bundle_adjustment, which turns COLMAP's log on
    if not pycolmap.create_default_bundle_adjuster(options, config, refined).solve().is_solution_usable():
        return model
    for camera in (refined.cameras[identity] for identity in set(photos)):
        x = camera.principal_point_x / camera.width - 0.5
        y = camera.principal_point_y / camera.height - 0.5
        if not (abs(x) < 0.05 and abs(y) < 0.05):  # also refuses NaN
            return model
    return refined


def placed(model) -> int:
    """Photos in `model`; 0 for None."""
    return 0 if model is None else model.num_reg_images()


def _global(pycolmap, database: Path, folder: Path, threads: int, seed: int) -> dict:
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads = threads
    options.random_seed = seed
    options.mapper.random_seed = seed
    options.mapper.rotation_averaging.random_seed = seed
    options.mapper.global_positioning.random_seed = seed
    options.mapper.retriangulation.random_seed = seed
    options.mapper.global_positioning.use_gpu = False
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    return pycolmap.global_mapping(database, folder, folder, options)


def colour_points(model, photos: dict[str, PhotoFeatures]) -> None:
    """Gives each 3D point the mean colour of the features it was made from."""
    colours = {i: photos[model.image(i).name].colours for i in model.reg_image_ids()}
    for point in model.points3D.values():
        seen = [colours[e.image_id][e.point2D_idx] for e in point.track.elements]
        point.color = np.rint(np.mean(seen, axis=0)).astype(np.uint8)


def turn_upright(
    camera_to_world: np.ndarray,  # (n, 4, 4), OpenCV axes
    image_up: np.ndarray,  # (n, 2) which way was up in each image, x right and y down
) -> np.ndarray:  # (3, 3) rotation to apply to the world
    """The smallest rotation that makes the photographer's up +z.

    People hold cameras level: pitched perhaps, but not rolled. So up is the direction most at right angles to
    all cameras' horizontal axes, if these differ enough to tell; otherwise, and if that contradicts it by more
    than 45 degrees, it is the cameras' mean up.
    """
    rotations = camera_to_world[:, :3, :3]
    up = np.einsum("nij,nj->ni", rotations[:, :, :2], image_up)
    across = np.einsum("nij,nj->ni", rotations[:, :, :2], np.stack([-image_up[:, 1], image_up[:, 0]], 1))
    mean = up.mean(axis=0)
    length = np.linalg.norm(mean)
    mean = mean / length if length > 1e-6 else up[0]
    values, vectors = np.linalg.eigh(across.T @ across / len(across))
    level = vectors[:, 0] * np.sign(vectors[:, 0] @ mean)
    if values[1] > 0.05 and values[1] > 4 * values[0] and level @ mean > np.sqrt(0.5):
        mean = level
    z = np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(mean, z), float(mean @ z)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)  # Rodrigues
