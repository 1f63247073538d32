"""The tinycudann adaptor against a stand-in for tinycudann, which needs an NVIDIA GPU.

`FakeEncoding` has the constructor, parameter, rounding to half, padding and cutting of the real `tinycudann.Encoding`, and checks the
config it is given; inside it calls our reference. What the real one computes is not tested here.
"""

import sys
import types

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields import GridLevels
from fieldstone.fields.encodings import hash_reference, hash_tcnn

LEVELS = GridLevels(3, 4, 2, 10, 5, 1.7)


class FakeEncoding(torch.nn.Module):
    made = 0
    batches = ()

    def __init__(self, n_input_dims, encoding_config, seed=1337, dtype=None):
        super().__init__()
        type(self).made += 1
        config = dict(encoding_config)
        assert (config.pop("otype"), config.pop("type")) == ("Grid", "Hash")
        self.interpolation = {"Linear": "linear", "Smoothstep": "smoothstep"}[config.pop("interpolation")]
        self.levels = GridLevels(
            n_input_dims,
            config.pop("n_levels"),
            config.pop("n_features_per_level"),
            config.pop("log2_hashmap_size"),
            config.pop("base_resolution"),
            config.pop("per_level_scale"),
        )
        assert not config, f"keys tiny-cuda-nn does not know: {config}"
        self.dtype = dtype
        self.params = torch.nn.Parameter(torch.rand(self.levels.parameters))

    def forward(self, x):
        padded = torch.nn.functional.pad(x, [0, 0, 0, -len(x) % 256])
        type(self).batches += (len(padded),)
        params = self.params.to(self.dtype).contiguous()
        y = hash_reference.encode(padded.float(), params, self.levels, self.interpolation)
        return y[: len(x)]


@pytest.fixture
def tinycudann(monkeypatch):
    fake = types.ModuleType("tinycudann")
    fake.Encoding = type("Encoding", (FakeEncoding,), {})
    monkeypatch.setitem(sys.modules, "tinycudann", fake)
    hash_tcnn._encoding.cache_clear()
    yield fake
    hash_tcnn._encoding.cache_clear()


def leaves(n=70):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, generator=generator).requires_grad_()
    return x, torch.nn.Parameter(torch.rand(LEVELS.parameters, generator=generator) - 0.5)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_our_table_is_its_parameter_vector(tinycudann, interpolation):
    results = []
    for encode in (hash_tcnn.encode, hash_reference.encode):
        x, table = leaves()
        y = encode(x, table, LEVELS, interpolation)
        y.square().sum().backward()
        results.append((y, x.grad, table.grad))
    for ours, exact in zip(*results, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact)
    assert tinycudann.Encoding.batches == (256,)


def test_modules_are_made_once_and_hold_no_table(tinycudann):
    x, table = leaves()
    for _ in range(3):
        hash_tcnn.encode(x, table, LEVELS)
    assert tinycudann.Encoding.made == 1
    module = hash_tcnn._encoding(LEVELS, "linear", torch.float32, x.device)
    assert module.params.numel() == 0


def test_half_precision_only_under_autocast(tinycudann, monkeypatch):
    x, table = leaves()
    exact = hash_tcnn.encode(x, table, LEVELS)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float16)
    half = hash_tcnn.encode(x, table, LEVELS)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 2e-3
    assert torch.equal(half, half.half().float())


def test_no_points(tinycudann):
    x, table = leaves(0)
    y = hash_tcnn.encode(x, table, LEVELS)
    y.sum().backward()
    assert y.shape == (0, 8) and tinycudann.Encoding.made == 0


def test_another_layout_is_refused(tinycudann):
    class Other(FakeEncoding):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.params = torch.nn.Parameter(torch.zeros(12))

    tinycudann.Encoding = Other
    with pytest.raises(UserError, match="has 12 parameters for GridLevels"):
        hash_tcnn.encode(*leaves(), LEVELS)


def test_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    hash_tcnn._encoding.cache_clear()
    with pytest.raises(UserError, match="tinycudann is needed for the tcnn back end of the hash grid"):
        hash_tcnn.encode(*leaves(), LEVELS)
