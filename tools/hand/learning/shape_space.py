"""Principal components of rest shapes, and what the literature judges them by (Davies, Twining and Taylor 2008, chapter 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ShapeSpace", "learn_shape_space", "principal_angles", "shape_metrics"]


@dataclass(frozen=True)
class ShapeSpace:
    """Mean and directions; a coefficient of 1 is one standard deviation over the subjects."""

    mean: np.ndarray
    """(v, 3)."""
    basis: np.ndarray
    """(v, 3, s)."""
    coefficients: np.ndarray
    """(u, s) of the subjects."""
    variance: np.ndarray
    """(min(u - 1, 3 v),) of all directions, square metres, largest first."""
    noise: float
    """Variance of one coordinate of a template that is noise, as known from the meshes it was averaged over."""

    def explained(self, count: int) -> float:
        """Share of the variance of shape in the first `count` directions, noise of the templates taken off."""
        clean = self.clean_variance()
        return float(clean[:count].sum() / max(clean.sum(), 1e-300))

    def explained_raw(self, count: int) -> float:
        """The same with the noise in."""
        return float(self.variance[:count].sum() / max(self.variance.sum(), 1e-300))

    def clean_variance(self) -> np.ndarray:
        """Variances less what noise adds to each direction.

        Noise of variance e in each of d coordinates, seen through u subjects, appears as eigenvalues up to e (1 + sqrt(d / u))^2 (Marchenko
        and Pastur 1967): those count as nothing, larger ones are shrunk by what the spiked model says (Donoho, Gavish and Johnstone 2018).
        """
        u, d = len(self.coefficients), self.mean.size
        gamma = d / max(u - 1, 1)
        if self.noise <= 0:
            return self.variance
        x = self.variance / self.noise
        edge = (1 + np.sqrt(gamma)) ** 2
        b = x - 1 - gamma
        inner = np.maximum(b**2 - 4 * gamma, 0)
        return np.where(x > edge, (b + np.sqrt(inner)) / 2, 0.0) * self.noise


def learn_shape_space(templates: np.ndarray, count: int, noise: float = 0.0) -> ShapeSpace:
    """(u, v, 3) rest shapes to at most `count` directions."""
    u = len(templates)
    mean = templates.mean(0)
    flat = (templates - mean).reshape(u, -1)
    left, singular, right = np.linalg.svd(flat, full_matrices=False)
    rank = max(min(count, u - 1), 0)
    deviation = singular / np.sqrt(max(u - 1, 1))
    basis = (right[:rank] * deviation[:rank, None]).T.reshape(*mean.shape, rank)
    coefficients = left[:, :rank] * np.sqrt(max(u - 1, 1))
    return ShapeSpace(mean, basis, coefficients, deviation[: u - 1] ** 2, noise)


def shape_metrics(
    templates: np.ndarray,  # (u, v, 3)
    counts: tuple[int, ...],
    rng: np.random.Generator,
    samples: int = 200,
) -> dict[str, list[float]]:
    """Against the number of components: compactness (share of variance), generalisation (mean vertex distance of a subject from the space
    learned without it, metres), specificity (mean vertex distance of drawn shapes from the nearest subject, metres).
    """
    u, v, _ = templates.shape
    flat = templates.reshape(u, -1)
    whole = learn_shape_space(templates, u - 1)
    result = {"components": list(counts), "compactness": [], "generalisation": [], "specificity": []}
    left_out = {count: [] for count in counts}
    for i in range(u):
        others = np.delete(flat, i, 0)
        mean = others.mean(0)
        right = np.linalg.svd(others - mean, full_matrices=False)[2]
        difference = flat[i] - mean
        for count in counts:
            part = right[: min(count, u - 2)]
            rest = difference - part.T @ (part @ difference)
            left_out[count].append(np.linalg.norm(rest.reshape(v, 3), axis=1).mean())
    for count in counts:
        used = min(count, whole.basis.shape[2])
        shapes = (
            whole.mean.reshape(-1)
            + rng.normal(size=(samples, used)) @ whole.basis[..., :used].reshape(3 * v, used).T
        )
        nearest = [np.linalg.norm((shape - flat).reshape(u, v, 3), axis=2).mean(1).min() for shape in shapes]
        result["compactness"].append(whole.explained_raw(used))
        result["generalisation"].append(float(np.mean(left_out[count])))
        result["specificity"].append(float(np.mean(nearest)))
    return result


def principal_angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles in radians, smallest first, between the spaces spanned by the columns (d, a) and (d, b) (Bjorck and Golub 1973)."""
    from scipy.linalg import subspace_angles

    return np.sort(subspace_angles(first, second))
