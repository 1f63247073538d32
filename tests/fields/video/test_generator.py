"""The generator against what it is made of: sizes, times, modulation that starts as none, neighbours, quantisation."""

import math

import pytest
import torch
from torch.nn import functional

from fieldstone.core.errors import UserError
from fieldstone.fields.quantisation import straight_through
from fieldstone.fields.video import FrameGenerator, GeneratorShape, generator_shape
from fieldstone.fields.video.aggregation import aggregate, warp
from fieldstone.fields.video.latents import over_time
from fieldstone.fields.video.upsampling import UpsamplingBlock


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**changes) -> GeneratorShape:
    sizes = {
        "frames": 6, "height": 22, "width": 37, "strides": (2, 3), "channels": (8, 6), "latent_nodes": (1, 3, 6),
        "latent_channels": 2, "modulation_nodes": 4, "place_spacing": 2, "norm": True,
    }  # fmt: skip
    return GeneratorShape(**{**sizes, **changes})


@pytest.mark.parametrize("changes", [{}, {"compact": True}, {"norm": False}, {"neighbours": (-1, 1)}])
def test_frames_of_any_size_and_parameters_as_counted(changes):
    shape = small(**changes)
    net = FrameGenerator(shape, generator=seeded())
    frames = net(torch.tensor([0, 3, 5]))
    assert (
        frames.shape == (3, 3, 22, 37)
        and 0 <= float(frames.detach().min())
        and float(frames.detach().max()) <= 1
    )
    assert shape.parameters() == net.parameters_count()
    groups = [
        net.network_parameters(),
        net.latent_parameters(),
        net.grid_parameters(),
        net.place_parameters(),
    ]
    assert all(groups) and sum(p.numel() for group in groups for p in group) == net.parameters_count()


@pytest.mark.parametrize("norm", [False, True])
def test_without_modulation_it_is_the_plain_generator_bit_for_bit(norm):
    plain = FrameGenerator(small(modulation_nodes=0, place_spacing=0, norm=norm), generator=seeded())
    fresh = FrameGenerator(small(norm=norm), generator=seeded())
    numbers = torch.arange(6)
    assert plain.modulation is None and plain.grid_parameters() == plain.place_parameters() == []
    assert torch.equal(plain(numbers), fresh(numbers))
    for grid in (*fresh.grid_parameters(), *fresh.place_scales, *fresh.place_shifts):
        with torch.no_grad():
            grid.add_(0.1)
        assert not torch.equal(plain(numbers), fresh(numbers))
        with torch.no_grad():
            grid.zero_()


def test_modulation_is_the_papers_equation():
    """x = gelu(gamma norm(conv(x)) + beta), written out for one block."""
    block = UpsamplingBlock(4, 5, 2, norm=True, generator=seeded())
    x, scale, shift = torch.randn(2, 4, 6, 7), torch.randn(2, 5), torch.randn(2, 5)
    h = functional.pixel_shuffle(functional.conv2d(x, block.weight, padding=1), 2)
    mean, variance = h.mean((2, 3), keepdim=True), h.var((2, 3), unbiased=False, keepdim=True)
    normed = (h - mean) / (variance + 1e-5).sqrt()
    expected = functional.gelu((1 + scale)[..., None, None] * normed + shift[..., None, None])
    torch.testing.assert_close(block(x, scale, shift), expected)


def test_modulation_over_place_lies_corner_on_corner():
    block = UpsamplingBlock(4, 5, 2, norm=False, generator=seeded())
    x, grids, mix = torch.randn(1, 4, 3, 4), torch.randn(2, 3, 3, 2), torch.randn(2, 5, 3)
    h = functional.pixel_shuffle(functional.conv2d(x, block.weight, padding=1), 2)
    shown = block(x, place=(grids[0], grids[1], mix))

    def expected(node, row, column):  # node: (2, 3), what the three grids of gamma - 1 and of beta hold there
        scale, shift = (mix @ node[:, :, None])[..., 0]
        return functional.gelu((1 + scale) * h[0, :, row, column] + shift)

    for row, column, node in ((0, 0, (0, 0)), (5, 7, (2, 1)), (0, 7, (0, 1))):
        torch.testing.assert_close(
            shown[0, :, row, column], expected(grids[(slice(None), slice(None), *node)], row, column)
        )
    left = 0.2 * grids[:, :, 0] + 0.8 * grids[:, :, 1]  # row 2 of 0 to 5 stands at 0.8 of the way to node 1
    torch.testing.assert_close(shown[0, :, 2, 0], expected(left[:, :, 0], 2, 0))


def test_gamma_and_beta_of_each_block_come_from_their_own_columns():
    net = FrameGenerator(small(), generator=seeded())
    grid = net.grid_parameters()[0]
    with torch.no_grad():
        grid.copy_(torch.arange(grid.numel()).view_as(grid) / 100)
    scales, shifts = net._modulation(torch.tensor([0.5]))  # nodes at 0, 1/3, 2/3, 1
    row = (grid[1] + grid[2]) / 2
    torch.testing.assert_close(torch.cat([*scales, *shifts], dim=1)[0], row)
    assert [part.shape[1] for part in scales] == [8, 6]
    net(torch.tensor([2])).sum().backward()
    used = grid.grad.abs().sum(1) > 0  # frame 2 of 6 stands between the nodes 1 and 2
    assert used.tolist() == [False, True, True, False]


def test_latents_are_linear_between_their_nodes():
    grid = torch.randn(5, 2, 3, 4)
    at = over_time(grid, torch.tensor([0.0, 0.125, 1.0, 1.5]))
    torch.testing.assert_close(at[0], grid[0])
    torch.testing.assert_close(at[1], (grid[0] + grid[1]) / 2)
    torch.testing.assert_close(at[2:], grid[-1].expand(2, -1, -1, -1))
    assert torch.equal(over_time(grid[:1], torch.tensor([0.7])), grid[:1])


def test_a_flow_moves_a_picture():
    picture = torch.rand(1, 3, 6, 8)
    flows = torch.zeros(1, 2, 6, 8)
    torch.testing.assert_close(warp(picture, flows), picture)
    flows[:, 0], flows[:, 1] = 2.0, -1.0
    torch.testing.assert_close(warp(picture, flows)[..., 1:, :6], picture[..., :-1, 2:])
    weights = torch.full((1, 2, 6, 8), -1e4)
    weights[:, 1] = 1e4
    torch.testing.assert_close(aggregate(picture * 0, [picture], flows * 0, weights), picture)
    flows = torch.zeros(1, 2, 6, 8, requires_grad=True)
    warp(picture, flows).square().sum().backward()
    assert flows.grad.abs().sum() > 0


def test_neighbours_are_frames_of_their_own_numbers():
    shape = small(neighbours=(-1, 1))
    net = FrameGenerator(shape, generator=seeded())
    with torch.no_grad():  # the previous frame alone, not moved
        net.head[3:] = 0
        net.head_bias[3:] = torch.tensor([0.0, 0, 0, 0, -1e4, 1e4, -1e4])
    frames, own = net.frames_and_own(torch.tensor([3, 0]))
    torch.testing.assert_close(frames[0], net.frames_and_own(torch.tensor([2]))[1][0])
    torch.testing.assert_close(frames[1], own[1])  # before the first frame there is the first


def test_a_frame_does_not_depend_on_the_others_of_its_batch():
    net = FrameGenerator(small(neighbours=(-1, 1)), generator=seeded())
    together = net(torch.arange(6))
    for number in range(6):
        torch.testing.assert_close(net(torch.tensor([number]))[0], together[number], atol=1e-6, rtol=1e-5)


def test_every_tensor_but_biases_goes_through_the_quantiser():
    net = FrameGenerator(small(compact=True), generator=seeded())
    with torch.no_grad():
        for grid in (*net.grid_parameters(), *net.place_parameters()):
            grid.normal_(generator=seeded(1))
    net.quantiser = straight_through(4)
    coarse = net(torch.arange(6))
    by_hand = FrameGenerator(small(compact=True))
    rounded = {
        name: value if name.endswith("bias") else straight_through(4)(value)
        for name, value in net.state_dict().items()
    }
    by_hand.load_state_dict(rounded)
    torch.testing.assert_close(coarse, by_hand(torch.arange(6)))
    coarse.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_largest_that_fits_a_budget():
    for nodes, spacing in ((60, 2), (60, 0), (0, 0)):
        shape = generator_shape(
            120, 144, 176, 100_000, modulation_nodes=nodes, place_spacing=spacing, norm=False
        )
        assert 0.9 * 100_000 < shape.parameters() <= 100_000
        assert shape.strides == (2, 2, 2, 2) and shape.latent_size == (9, 11)
        assert shape.latent_nodes == (15, 30, 60, 120) and shape.modulation_nodes == nodes
        assert shape.place_nodes() == ([(9, 11), (18, 22), (36, 44), (72, 88)] if spacing else [])
        assert 0.2 < sum(shape.latent_nodes) * shape.latent_channels * 99 / shape.parameters() < 0.5
    with pytest.raises(UserError, match="smallest generator"):
        generator_shape(120, 144, 176, 5_000, modulation_nodes=60, place_spacing=2, norm=True)
    assert generator_shape(1, 17, 9, 9_000, modulation_nodes=2, place_spacing=2, norm=True).frames == 1


def test_it_learns_a_moving_picture():
    """Stripes that move: to 30 dB in a few seconds."""
    x, t = torch.arange(24.0), torch.arange(6.0)
    wave = 0.5 + 0.4 * torch.sin(x / 3 + t[:, None])
    video = wave[:, None, None, :].expand(6, 3, 16, 24).contiguous()
    shape = GeneratorShape(6, 16, 24, (2, 2), (12, 8), (2, 6), 4, 6, 2)
    net = FrameGenerator(shape, generator=seeded())
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        error = (net(torch.arange(6)) - video).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert -10 * math.log10(float(error.detach())) > 28
