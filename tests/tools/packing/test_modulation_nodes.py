"""Which nodes of a modulation grid a packed scene keeps."""

import torch

from fieldstone.fields.modulation import CoordinateModulation
from fieldstone.tools.training.modulation_nodes import nodes_read


def test_exactly_the_nodes_that_occupied_cells_read_are_kept():
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(16, 16, 16, generator=generator) > 0.99
    corners = torch.nonzero(cells).float()
    steps = torch.linspace(1e-3, 1 - 1e-3, 12)
    inside = torch.cartesian_prod(steps, steps, steps)[:, None]
    places = ((corners + inside) / 16).reshape(-1, 3)
    for resolution in ((7, 7, 7), (16, 17, 40), (33, 5, 16)):
        modulation = CoordinateModulation(1, resolution, backend="reference")
        modulation(places)[:, 0].sum().backward()
        touched = modulation.grids[0].grad[:, 0] != 0
        kept = nodes_read(cells, resolution)
        assert torch.equal(kept, touched) and 0 < kept.sum() < len(kept)
        assert (nodes_read(cells, resolution, margin=1) | ~kept).all()
    assert not nodes_read(torch.zeros(8, 8, 8, dtype=torch.bool), (5, 5, 5)).any()
