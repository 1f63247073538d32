"""Packed files: what goes in comes out, near the entropy, and damage is told."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.fields.quantisation import dequantise, quantise
from fieldstone.tools.packing import entropy
from fieldstone.tools.packing.container import EXACT, VERSION, from_bytes, to_bytes


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_symbols_come_back(symbols):
    data = entropy.encode(np.array(symbols))
    assert entropy.decode(data, len(symbols), "x").tolist() == symbols


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
    with pytest.raises(UserError, match="version 2"):
        from_bytes(bytes(data), "f.fsp")
