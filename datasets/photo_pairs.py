"""Which photos show the same thing: pairs worth matching, and the features they share.

With n photos there are n (n - 1) / 2 pairs, and most of them share nothing. Up to 200 photos, all pairs are
previewed with their few strongest features (preemptive matching, Wu 2013); above that, only neighbours in name
order and photos that look alike (VLAD, Jegou et al. 2010) are. The best partners of every photo are then matched
with all features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["likely_pairs", "match", "unit_descriptors"]

EXHAUSTIVE = 200
"""Up to this many photos every pair is previewed."""
PREVIEW = 512
"""Features a preview looks at."""
NEIGHBOURS = 2
"""Photos before and after in name order that are always matched: videos and most albums are sequences."""

_LOOK_ALIKE = 40
_RATIO, _FARTHEST = 0.8, 0.7  # COLMAP's: nearest against second angle, and the largest angle in radians
_WORDS = 64


def unit_descriptors(
    descriptors: np.ndarray,  # (k, 128) uint8
) -> torch.Tensor:  # (k, 128) float32, unit length
    values = torch.from_numpy(descriptors.astype(np.float32))
    return values / values.norm(dim=1, keepdim=True).clamp_min(1e-9)


def match(
    a: torch.Tensor,  # (k, 128) unit descriptors
    b: torch.Tensor,  # (l, 128)
) -> np.ndarray:  # (m, 2) int64 indices into a and b
    """Features that are each other's nearest, clearly nearer than the second nearest (Lowe 2004, section 7.1)."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), np.int64)
    cosines = a @ b.T
    best, index = cosines.topk(2, dim=1)
    mutual = best[:, 0] == cosines.amax(dim=0)[index[:, 0]]
    nearest, second = torch.arccos(best.clamp(-1, 1)).unbind(1)
    kept = (mutual & (nearest < _RATIO * second) & (nearest < _FARTHEST)).nonzero()[:, 0]
    return torch.stack([kept, index[kept, 0]], dim=1).numpy()


def likely_pairs(
    descriptors: list[torch.Tensor],  # n of (k, 128) unit descriptors, strongest first
    partners: int,  # photos that each photo is matched with in full; more where others choose it
    generator: np.random.Generator,
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, that are worth a full match, sorted."""
    n = len(descriptors)
    near = {(i, j) for i in range(n) for j in range(i + 1, min(n, i + 1 + NEIGHBOURS))}
    if n <= partners + 1:
        return [(i, j) for i in range(n) for j in range(i + 1, n)]
    scores = np.zeros((n, n), np.int32)
    few = [entry[:PREVIEW].contiguous() for entry in descriptors]
    for i, j in _previewed(descriptors, generator):
        scores[i, j] = scores[j, i] = len(match(few[i], few[j]))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :partners]
    chosen = {(min(i, j), max(i, j)) for i in range(n) for j in best[i].tolist() if scores[i, j] > 0}
    return sorted(near | chosen)


def _previewed(descriptors: list[torch.Tensor], generator: np.random.Generator) -> Iterator[tuple[int, int]]:
    n = len(descriptors)
    if n <= EXHAUSTIVE:
        yield from ((i, j) for i in range(n) for j in range(i + 1, n))
        return
    alike = _appearance(descriptors, generator)
    alike = alike @ alike.T
    alike.fill_diagonal_(-2)
    nearest = alike.topk(_LOOK_ALIKE, dim=1).indices.tolist()
    pairs = {(min(i, j), max(i, j)) for i in range(n) for j in nearest[i]}
    pairs |= {(i, j) for i in range(n) for j in range(i + 1, min(n, i + 11))}
    yield from sorted(pairs)


def _appearance(
    descriptors: list[torch.Tensor], generator: np.random.Generator
) -> torch.Tensor:  # (n, words * 128) unit rows
    """VLAD: sums of residuals to the nearest of 64 visual words, signed square root, unit length."""
    sample = torch.cat([entry[:PREVIEW] for entry in descriptors])
    sample = sample[torch.from_numpy(generator.permutation(len(sample))[:40_000])]
    words = sample[:_WORDS].clone()
    for _ in range(8):  # Lloyd's iterations; the words need not have converged
        nearest = _nearest(sample, words)
        sums = torch.zeros_like(words).index_add_(0, nearest, sample)
        counts = torch.bincount(nearest, minlength=len(words))[:, None]
        words = torch.where(counts > 0, sums / counts.clamp_min(1), words)
    rows = []
    for entry in descriptors:
        nearest = _nearest(entry, words)
        residuals = torch.zeros_like(words).index_add_(0, nearest, entry - words[nearest])
        row = residuals.flatten()
        rows.append(row.sign() * row.abs().sqrt())
    result = torch.stack(rows)
    return result / result.norm(dim=1, keepdim=True).clamp_min(1e-9)


def _nearest(values: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    return (values @ words.T - 0.5 * words.square().sum(dim=1)).argmax(dim=1)
