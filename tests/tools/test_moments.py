"""Moving scenes: which moments training looks at, how places are warped, and which levels take part."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fieldstone.fields.cam_radiance import CamRadianceField, CamRadianceSettings, rigid
from fieldstone.tools.training.moments import FIRST, Moments
from fieldstone.tools.training.pixels import PixelBatch


class _Pixels:
    """Frames 0 to 59 in equal parts."""

    def draw(self, count, generator):
        frame = torch.randint(60, (count,), generator=generator)
        return PixelBatch(frame, torch.zeros(count, 3), torch.zeros(count, 3), frame.float())


def test_moments_come_in_from_the_middle():
    times = torch.rand(60, generator=torch.Generator().manual_seed(1))
    moments, generator = Moments(times, 0.5), torch.Generator().manual_seed(0)
    counts = []
    for progress in (0.0, 0.1, 0.3, 0.5, 0.9):
        moments.use(progress)
        low, high = moments.span
        batch = moments.draw(_Pixels(), 4000, generator)
        drawn = times[batch.frame]
        assert len(drawn) == 4000 and float(drawn.min()) >= low and float(drawn.max()) <= high
        assert torch.equal(batch.alpha, batch.frame.float())
        some = moments.some(1000, generator)
        assert some.shape == (1000, 1) and low <= float(some.min()) and float(some.max()) <= high
        counts.append(len(batch.frame.unique()))
    assert counts[0] == math.ceil(FIRST * 60) and counts == sorted(counts) and counts[-2:] == [60, 60]
    assert moments.span == (0.0, 1.0)
    assert Moments(times, 0.0).span == (0.0, 1.0)
    assert len(Moments(torch.tensor([0.0, 1.0]), 0.5).draw(_Pixels2(), 10, generator).frame) > 0


class _Pixels2(_Pixels):
    def draw(self, count, generator):
        batch = super().draw(count, generator)
        return batch._replace(frame=batch.frame % 2)


def test_nodes_that_nothing_read_follow_the_last_that_was():
    moments = Moments(torch.linspace(0, 1, 61), 0.5)
    moments.use(0.1)  # 32 % of the frames: 0.35 to 0.65
    grid = torch.arange(11.0)[:, None].repeat(1, 4)
    moments.hold_beyond(grid)
    assert grid[:, 0].tolist() == [3, 3, 3, 3, 4, 5, 6, 7, 7, 7, 7]
    moments.use(1.0)
    kept = torch.arange(11.0)[:, None]
    moments.hold_beyond(kept)
    assert kept[:, 0].tolist() == list(range(11))


def test_a_rigid_warp_turns_and_shifts():
    axis, angle, shift = np.array([1.0, 2.0, -2.0]) / 3, 1.9, np.array([0.1, -0.2, 0.05])
    places = torch.rand(50, 3, dtype=torch.float64)
    motion = torch.from_numpy(np.concatenate([shift, math.tan(angle / 2) * axis])).expand(50, 6)
    expected = Rotation.from_rotvec(angle * axis).apply(places.numpy() - 0.5) + 0.5 + shift
    np.testing.assert_allclose(rigid(places, motion).numpy(), expected, atol=1e-12)
    assert torch.equal(rigid(places, torch.zeros(50, 6, dtype=torch.float64)), places)


def test_levels_come_in_from_coarse_to_fine():
    settings = CamRadianceSettings(
        levels=6, log2_table_size=8, finest_resolution=64, hidden=16, modulation="none", moving=True
    )
    field = CamRadianceField(settings, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(field.grid.table, std=0.1)
    points = torch.rand(200, 3)
    whole = field.density(points)
    seen = []
    for share in (0.0, 0.5, 1.0):
        field.show_levels(share)
        field.grid.table.grad = None
        field.density(points).sum().backward()
        starts = [2 * int(start) for start in field.grid.levels.offset]
        parts = [field.grid.table.grad[starts[level] : starts[level + 1]] for level in (2, 3, 4)]
        seen.append([bool(part.abs().max() > 0) for part in parts])
    assert seen[0] == [False] * 3 and seen[1] == [True, True, False] and seen[2] == [True] * 3
    torch.testing.assert_close(field.density(points), whole)
