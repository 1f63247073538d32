"""Why structure from motion placed some photos and not others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .photo_features import PhotoFeatures
from .photo_mapping import NEEDED_MATCHES

__all__ = ["missing_reasons", "shared_features", "summary_line"]

_FEW_FEATURES = 100
_BLURRED = 0.25  # of the median sharpness of the set


def shared_features(database: Path, names: list[str]) -> dict[str, dict[str, set[int]]]:
    """For each photo (image ids 1 ... n in the order of `names`): other photo -> its own features seen there too."""
    import pycolmap

    shared: dict[str, dict[str, set[int]]] = {name: {} for name in names}
    with pycolmap.Database.open(database) as opened:
        pairs, geometries = opened.read_two_view_geometries()
    for pair, geometry in zip(pairs, geometries):
        first, second = (names[i - 1] for i in pycolmap.pair_id_to_image_pair(pair))
        matches = np.asarray(geometry.inlier_matches).reshape(-1, 2)
        if len(matches):
            shared[first][second] = set(matches[:, 0].tolist())
            shared[second][first] = set(matches[:, 1].tolist())
    return shared


def missing_reasons(
    photos: list[PhotoFeatures],
    placed: set[str],
    shared: dict[str, dict[str, set[int]]],  # from `shared_features`
    elsewhere: dict[str, int],  # photo -> photos of the separate part it was placed in
) -> dict[str, str]:
    """Name -> one reason, for each of `photos` that is not in `placed`."""
    median = float(np.median([photo.sharpness for photo in photos]))
    reasons = {}
    for photo in photos:
        if photo.name in placed:
            continue
        seen = [features for other, features in shared[photo.name].items() if other in placed]
        count = len(set().union(*seen))
        blurred = photo.sharpness < _BLURRED * median
        blur = f"blurred: sharpness {photo.sharpness:.0f}, median of all {median:.0f}; " if blurred else ""
        if len(photo.keypoints) < _FEW_FEATURES:
            reason = f"{len(photo.keypoints)} features, too few; needs {_FEW_FEATURES}"
        elif photo.name in elsewhere:
            reason = (
                f"placed with {elsewhere[photo.name] - 1} others in a part of its own; "
                f"{count} matches to the main part do not tie them together"
            )
        elif count < NEEDED_MATCHES:
            reason = f"{count} matches, too few; needs {NEEDED_MATCHES}"
        else:
            reason = f"{count} matches that fit no single position"
        reasons[photo.name] = blur + reason
    return reasons


def summary_line(record: dict) -> str:
    """The report of `place_photos` as a person reads it, one line."""
    line = (
        f"placed {len(record['placed'])} of {record['photos']} photos, "
        f"median reprojection error {record['median_reprojection_error']:.2f} px"
    )
    missing = [f"{name} ({reason})" for name, reason in record["not_placed"].items()]
    if not missing:
        return line
    more = f"; and {len(missing) - 8} more, see report.json" if len(missing) > 8 else ""
    return f"{line}; not placed: {'; '.join(missing[:8])}{more}"
