"""Packed files: what goes in comes out, near the entropy, and damage is told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.fields.quantisation import dequantise, quantise
from fieldstone.tools.packing import entropy
from fieldstone.tools.packing.container import EXACT, FINE, VERSION, from_bytes, to_bytes
from fieldstone.tools.packing.curve import curve, fit


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_symbols_come_back(symbols):
    data = entropy.encode(np.array(symbols))
    assert entropy.decode(data, len(symbols), "x").tolist() == symbols


@given(st.integers(0, 10_000), st.floats(0.3, 3000), st.sampled_from(["normal", "laplace", "uniform"]))
@settings(max_examples=40, deadline=None)
def test_symbols_of_any_spread_come_back(seed, spread, kind):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 3000))
    values = draw.uniform(-1, 1, count) if kind == "uniform" else getattr(draw, kind)(0, 1, count)
    symbols = np.round(values * spread).astype(int) + int(draw.integers(-50, 50))
    assert np.array_equal(entropy.decode(entropy.encode(symbols), count, "x"), symbols)


def test_a_fitted_curve_is_near_what_was_drawn():
    symbols = np.round(np.random.default_rng(1).normal(0, 9, 20_000)).astype(int)
    low = int(symbols.min())
    counts = np.bincount(symbols - low)
    centre, a, b = fit(counts, low)
    assert centre == 0 and a == pytest.approx(1, abs=0.01) and b == pytest.approx(np.exp(-1 / 162), rel=1e-3)
    share, model = counts / counts.sum(), curve(low, len(counts), centre, a, b).astype(float)
    model /= model.sum()
    present = share > 0
    apart = (share[present] * np.log2(share[present] / model[present])).sum()
    assert apart < 0.01  # bits a symbol


def test_few_symbols_take_few_bytes():
    symbols = np.round(np.random.default_rng(2).normal(0, 8, 1600)).astype(int)
    _, counts = np.unique(symbols, return_counts=True)
    share = counts / counts.sum()
    bits = -(share * np.log2(share)).sum() * len(symbols)
    assert 8 * len(entropy.encode(symbols)) < bits + 8 * 32
    assert len(entropy.encode(np.arange(-100, 100))) == 5 + 200
    assert len(entropy.encode(np.full(1000, 7))) == 5


def test_length_is_within_two_percent_of_the_entropy():
    symbols = np.round(np.random.default_rng(0).normal(0, 12, 100_000)).astype(int)
    _, counts = np.unique(symbols, return_counts=True)
    share = counts / counts.sum()
    bits = -(share * np.log2(share)).sum() * len(symbols)
    assert bits <= 8 * len(entropy.encode(symbols)) <= 1.02 * bits


@pytest.fixture
def content():
    generator = torch.Generator().manual_seed(0)
    quantised = {
        "w": torch.randn(30, 20, generator=generator),
        "zeros": torch.zeros(7),
        "none": torch.zeros(0, 3),
    }
    exact = {
        "bias": torch.randn(9, generator=generator),
        "cells": torch.rand(3, 5, generator=generator) > 0.5,
        "count": torch.tensor(12),
    }
    return {"name": "x", "n": 3}, quantised, exact


@pytest.mark.parametrize("bits", [6, 8, EXACT])
def test_tensors_and_record_come_back(content, bits):
    record, quantised, exact = content
    data = to_bytes(record, quantised, exact, bits)
    assert data == to_bytes(record, quantised, exact, bits)
    back, tensors = from_bytes(data, "x")
    assert back == record
    for name, tensor in exact.items():
        assert torch.equal(tensors[name], tensor)
    for name, tensor in quantised.items():
        expected = tensor if bits == EXACT else dequantise(*quantise(tensor, bits)).view(tensor.shape)
        assert torch.equal(tensors[name], expected)
    assert to_bytes(record, {name: tensors[name] for name in quantised}, exact, bits) == data


@pytest.mark.parametrize("bits", [6, 8])
def test_few_numbers_that_matter_are_quantised_finely_and_stay_when_packed_again(content, bits):
    record, quantised, exact = content
    fine = {"fine": exact.pop("bias")}
    data = to_bytes(record, quantised, exact, bits, fine)
    _, tensors = from_bytes(data, "x")
    assert torch.equal(tensors["fine"], dequantise(*quantise(fine["fine"], FINE)))
    again = {"fine": tensors["fine"]}
    assert to_bytes(record, {name: tensors[name] for name in quantised}, exact, bits, again) == data
    _, kept = from_bytes(to_bytes(record, quantised, exact, EXACT, fine), "x")
    assert torch.equal(kept["fine"], fine["fine"])


def test_files_of_version_1_are_read():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(12, 10, generator=generator)
    record, tensors = from_bytes((Path(__file__).parent / "version_1.fsp").read_bytes(), "version_1.fsp")
    assert record == {"name": "x", "n": 3}
    assert torch.equal(tensors["w"], dequantise(*quantise(w, 6)))
    assert torch.equal(tensors["even"], dequantise(*quantise(torch.full((9,), 0.5), 6)))
    assert tensors["zeros"].tolist() == [0] * 7
    assert tensors["none"].shape == (0, 3) and int(tensors["count"]) == 12
    assert torch.equal(tensors["bias"], torch.randn(9, generator=generator))
    assert torch.equal(tensors["cells"], torch.rand(3, 5, generator=generator) > 0.5)


def test_every_cut_and_every_flipped_byte_is_one_clear_line(content):
    data = to_bytes(*content, 8)
    for length in [0, 3, 10, 35, 36, len(data) // 2, len(data) - 1]:
        with pytest.raises(UserError, match=r"cut short|no packed file") as error:
            from_bytes(data[:length], "f.fsp")
        assert "\n" not in str(error.value)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        with pytest.raises(UserError):
            from_bytes(bytes(flipped), "f.fsp")
    with pytest.raises(UserError, match="checksum"):
        from_bytes(data + b"x", "f.fsp")


def test_a_later_version_is_told(content):
    data = bytearray(to_bytes(*content, 8))
    data[4] = VERSION + 1
    with pytest.raises(UserError, match=f"version {VERSION + 1}"):
        from_bytes(bytes(data), "f.fsp")
