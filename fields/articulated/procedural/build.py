"""From anatomy to model: mesh, weights, shapes, regressor, correctives, pose components.

What comes out is stored in `../data`, so that every machine has the same vertices (meshing depends on the last bits of floating
point); `python -m fieldstone.fields.articulated.procedural.build FOLDER` makes the files again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ..geometry import boundary_loops
from ..layouts import LAYOUTS
from ..mirror import mirror_model
from ..model_data import ModelData
from ..model_file import write_model
from .anatomy import Anatomy
from .body import body_anatomy, wrist_plane
from .correctives import flesh_errors, learn_correctives
from .hand import FINGERTIPS, OPENING, hand_anatomy, sample_hand_pose
from .meshing import mesh_of, relax
from .shapes import joint_regressor, shape_space
from .weights import diffuse, skinning_weights

__all__ = ["build_body", "build_hand", "neighbourhoods", "pose_space", "zip_loops"]

NOTE = "made by Fieldstone's own code (fields/articulated/procedural); it is not MANO, SMPL or made from them"


def build_hand(
    *,
    cell: float = 1.8e-3,
    edge: tuple = (0.5, 3.0e-3, 6.2e-3),
    shapes: int = 10,
    poses: int = 160,
    seed: int = 0,
) -> ModelData:
    """The right hand: 16 joints in MANO's order, open at the wrist. Takes some ten seconds; the body about a minute."""
    anatomy = hand_anatomy()
    generator = np.random.default_rng(seed)
    low, high = np.array([-0.215, -0.052, -0.062]), np.array([OPENING / 1e3, 0.036, 0.106])
    vertices, triangles = mesh_of(anatomy.flesh, low, high, cell, edge)
    weights = skinning_weights(anatomy.flesh, 16, vertices, triangles, anatomy.spread)
    arrays = _learned(anatomy, vertices, triangles, weights, shapes, poses, 1, generator)
    mean, components, coefficients = pose_space(generator)
    return ModelData.checked(
        arrays
        | {
            "pose_mean": mean,
            "pose_components": components,
            "pose_coefficients": coefficients,
            "fingertips": _fingertips(vertices, anatomy, LAYOUTS["mano"].joint_names, ""),
        },
        where="procedural hand",
        side="right",
        info={"source": "procedural hand", "licence": "Apache-2.0", "note": NOTE},
    )


def build_body(
    hand: ModelData,
    *,
    cell: float = 0.0085,
    edge: tuple = (0.36, 9e-3, 28e-3),
    shapes: int = 10,
    poses: int = 140,
    seed: int = 1,
) -> ModelData:
    """The body: 52 joints of SMPL+H, closed; its hands are `hand` and its mirror image, sewn onto the arms."""
    anatomy = body_anatomy()
    generator = np.random.default_rng(seed)
    sizes, edge = edge, wrist_plane()
    trunk = mesh_of(anatomy.flesh, np.array([-edge, -0.98, -0.16]), np.array([edge, 0.83, 0.22]), cell, sizes)
    vertices, triangles, places = _with_hands(*trunk, hand, anatomy)
    own = np.arange(len(trunk[0]))
    vertices[own] = _relaxed_seam(anatomy, vertices, triangles, edge)[own]
    weights = skinning_weights(anatomy.flesh, 52, vertices, triangles, anatomy.spread)
    arrays = _learned(anatomy, vertices, triangles, weights, shapes, poses, 2, generator, body=True)
    # fingers get what the hand has learned, on its own vertices
    correctives = arrays["pose_correctives"]
    for side, start, source in (("left", 22, mirror_model(hand)), ("right", 37, hand)):
        columns = np.arange(9 * (start - 1), 9 * (start + 14))
        correctives[:, :, columns] = 0
        correctives[np.ix_(places[side], range(3), columns)] = source.pose_correctives
    mean, components, _ = pose_space(generator)
    turn = np.tile((1.0, -1.0, -1.0), 15)
    full_mean, full = np.zeros(153), np.zeros((90, 153))
    full_mean[63:108], full_mean[108:] = mean * turn, mean
    full[:45, 63:108], full[45:, 108:] = components * turn, components
    names = LAYOUTS["smplh"].joint_names
    return ModelData.checked(
        arrays
        | {
            "pose_mean": full_mean,
            "pose_components": full,
            "fingertips": np.concatenate(
                [_fingertips(vertices, anatomy, names, f"{side}_") for side in ("left", "right")]
            ),
        },
        where="procedural body",
        side="both",
        info={"source": "procedural body", "licence": "Apache-2.0", "note": NOTE},
    )


def _learned(
    anatomy: Anatomy,
    vertices: np.ndarray,
    triangles: np.ndarray,
    weights: np.ndarray,
    shapes: int,
    poses: int,
    steps: int,
    generator: np.random.Generator,
    body: bool = False,
) -> dict:
    """Shape space, regressor and correctives around a skinned mesh."""
    basis, joints, bodies = shape_space(anatomy, vertices, weights, shapes, generator)
    regressor = joint_regressor(joints, bodies, vertices)
    cones, members = neighbourhoods(anatomy, weights, steps)
    wider = diffuse(weights, vertices, triangles, np.full(len(vertices), 0.03 if body else 0.006))
    reach = wider > 0.01
    if body:
        reach[:, 22:] = False
    correctives = learn_correctives(
        flesh_errors(anatomy, vertices, weights, cones, members),
        anatomy.sample_pose,
        reach,
        generator,
        poses,
        most=0.03 if body else 0.006,
    )
    correctives[np.abs(correctives) < (1e-5 if body else 5e-6)] = 0
    return {
        "template": vertices,
        "shape_basis": basis,
        "pose_correctives": correctives,
        "joint_regressor": regressor,
        "weights": weights,
        "parents": np.array(anatomy.parents),
        "faces": triangles,
    }


def neighbourhoods(
    anatomy: Anatomy, weights: np.ndarray, steps: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Vertices by the joint that moves them most, and for each set the cones of joints at most `steps` bones away.

    So a fingertip is not pushed by the palm it touches, nor a hand by the hip it hangs beside.
    """
    j = len(anatomy.parents)
    distance = np.full((j, j), 99)
    np.fill_diagonal(distance, 0)
    for joint in range(1, j):
        parent = anatomy.parents[joint]
        for other in range(joint):
            distance[joint, other] = distance[other, joint] = distance[parent, other] + 1
    label = weights.argmax(1)
    cones, members = [], []
    for joint in range(j):
        own = np.nonzero(label == joint)[0]
        if len(own):
            members.append(own)
            cones.append(np.nonzero(distance[joint][anatomy.flesh.joint] <= steps)[0])
    return cones, members


def pose_space(
    generator: np.random.Generator, samples: int = 600
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (45,), components (45, 45) and coefficients (samples, 45) of sampled poses of a right hand."""
    poses = np.stack([sample_hand_pose(generator)[1:].reshape(-1) for _ in range(samples)])
    mean = poses.mean(0)
    _, _, rows = np.linalg.svd(poses - mean, full_matrices=True)
    return mean, rows, (poses - mean) @ rows.T


def _fingertips(vertices: np.ndarray, anatomy: Anatomy, names: tuple[str, ...], prefix: str) -> np.ndarray:
    """The vertex furthest along each last finger bone."""
    tips = []
    for finger in FINGERTIPS:
        joint = names.index(f"{prefix}{finger}3")
        way = anatomy.ends[joint] - anatomy.joints[joint]
        near = np.linalg.norm(vertices - anatomy.ends[joint], axis=1) < 0.012
        tips.append(int(np.where(near, (vertices - anatomy.joints[joint]) @ way, -np.inf).argmax()))
    return np.array(tips)


def _with_hands(
    vertices: np.ndarray, triangles: np.ndarray, hand: ModelData, anatomy: Anatomy
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Arms' and hands' open loops sewn together; where the hands' vertices are."""
    mirror = np.array([-1.0, 1.0, 1.0])
    places = {}
    for side, flip in (("left", mirror), ("right", np.ones(3))):
        wrist = anatomy.joints[anatomy.joint_names.index(f"{side}_wrist")]
        faces = hand.faces if side == "right" else hand.faces[:, ::-1]
        offset = len(vertices)
        arm = next(loop for loop in boundary_loops(triangles) if vertices[loop[0], 0] * wrist[0] > 0)
        rim = boundary_loops(faces)[0] + offset
        vertices = np.concatenate((vertices, wrist + hand.template * flip))
        triangles = np.concatenate((triangles, faces + offset, zip_loops(vertices, arm, rim)))
        places[side] = np.arange(offset, len(vertices))
    return vertices, triangles, places


def zip_loops(vertices: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Triangles between two boundary loops that run around the same x axis, walking both by angle."""
    centre = vertices[np.concatenate((first, second))].mean(0)

    def angles(loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        relative = vertices[loop] - centre
        angle = np.unwrap(np.arctan2(relative[:, 2], relative[:, 1]))
        if angle[-1] < angle[0]:
            loop, angle = loop[::-1], angle[::-1]
        start = int(np.argmin(np.mod(angle, 2 * np.pi)))
        loop = np.roll(loop, -start)
        angle = np.mod(np.roll(angle, -start), 2 * np.pi)
        return np.append(loop, loop[0]), np.append(np.maximum.accumulate(angle), angle[0] + 2 * np.pi)

    forward = _turns_positive(vertices[first] - centre)
    a, angle_a = angles(first)
    b, angle_b = angles(second)
    i = k = 0
    faces = []
    while i < len(a) - 1 or k < len(b) - 1:
        step_a = k == len(b) - 1 or (i < len(a) - 1 and angle_a[i + 1] <= angle_b[k + 1])
        # `first` runs along its own faces, so the new faces pass it the other way
        face = (a[i + 1], a[i], b[k]) if step_a else (a[i], b[k], b[k + 1])
        faces.append(face if forward else face[::-1])
        i, k = (i + 1, k) if step_a else (i, k + 1)
    return np.array(faces)


def _turns_positive(loop: np.ndarray) -> bool:
    angle = np.unwrap(np.arctan2(loop[:, 2], loop[:, 1]))
    return bool(angle[-1] > angle[0])


def _relaxed_seam(anatomy: Anatomy, vertices: np.ndarray, triangles: np.ndarray, edge: float) -> np.ndarray:
    """The mesh relaxed near the seams, elsewhere as it was."""
    near = (np.abs(vertices[:, 0]) > edge - 0.03) & (np.abs(vertices[:, 0]) < edge + 1e-6)
    relaxed = relax(anatomy.flesh, vertices, triangles, 10)
    return np.where(near[:, None], relaxed, vertices)


def _main(folder: str) -> None:
    hand = build_hand()
    write_model(Path(folder) / "hand.npz", _rounded(hand), dtype=np.float32)
    write_model(Path(folder) / "body.npz", _rounded(build_body(hand)), dtype=np.float32)


def _rounded(data: ModelData) -> ModelData:
    """Lengths to a micrometre, so that the file is small; weights to 1e-5, with rows that still sum to 1."""
    weights = data.weights.round(5)
    most = weights.argmax(1)
    weights[np.arange(len(weights)), most] += 1 - weights.sum(1)
    return data.replace(
        template=data.template.round(6),
        shape_basis=data.shape_basis.round(6),
        pose_correctives=data.pose_correctives.round(6) + 0.0,
        weights=weights,
        joint_regressor=data.joint_regressor.round(7),
        pose_coefficients=data.pose_coefficients[:400].round(4),
    )


if __name__ == "__main__":
    _main(sys.argv[1])
