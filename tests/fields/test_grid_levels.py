"""Sizes of hash grids against tiny-cuda-nn's golden numbers and its overflow rule."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.fields import GridLevels

NGP_GROWTH = math.exp(math.log(2048 / 16) / 15)


def test_size_of_tiny_cuda_nns_own_test():
    levels = GridLevels(levels=20, log2_table_size=16, base_resolution=32, per_level_scale=1.5)
    assert levels.parameters == 2_555_904
    assert levels.entries.tolist() == [32**3, *[65536] * 19]


def test_sizes_of_instant_ngp():
    levels = GridLevels(per_level_scale=NGP_GROWTH)
    expected = [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048]
    assert levels.resolution.tolist() == expected
    assert levels.hashed.tolist() == [False] * 5 + [True] * 11
    assert levels.parameters == 12_196_240
    assert levels.entries[4] == 205_384  # 59^3 = 205,379, rounded up to a multiple of 8
    assert levels.offset[1] == 16**3
    base_json = GridLevels(levels=8, features=4, per_level_scale=2.0)
    assert base_json.resolution.tolist() == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert (base_json.hashed.sum(), base_json.parameters) == (5, 11_681_792)


def test_dtypes_and_read_only():
    levels = GridLevels()
    assert (levels.scale.dtype, levels.resolution.dtype, levels.hashed.dtype) == (np.float32, np.uint32, bool)
    with pytest.raises(ValueError, match="read-only"):
        levels.scale[0] = 1


def test_a_level_that_just_fits_is_dense_and_one_more_vertex_is_hashed():
    # growth 1 repeats a level; 16^3 = 2^12 vertices fill 2^12 rows, 17^3 do not
    assert GridLevels(levels=1, log2_table_size=12, base_resolution=16).hashed.tolist() == [False]
    assert GridLevels(levels=1, log2_table_size=12, base_resolution=17).hashed.tolist() == [True]


@pytest.mark.parametrize(("dims", "largest"), [(2, 0xFFFF), (3, 0x659), (4, 0xFF)])
def test_resolutions_that_overflow_32_bits_are_hashed(dims, largest):
    levels = GridLevels(
        dims=dims, levels=1, features=1, log2_table_size=28, base_resolution=largest + 1, per_level_scale=1.0
    )
    assert (largest + 1) ** dims >= 2**32 > largest**dims
    assert levels.hashed.tolist() == [True]


def test_equal_settings_are_equal_and_hash_alike():
    assert GridLevels(levels=4) == GridLevels(levels=4) != GridLevels(levels=5)
    assert hash(GridLevels(levels=4)) == hash(GridLevels(levels=4))


@given(
    dims=st.integers(2, 4),
    levels=st.integers(1, 16),
    features=st.sampled_from([1, 2, 4, 8]),
    log2_table_size=st.integers(3, 20),
    base=st.integers(1, 64),
    growth=st.floats(1, 2),
)
@settings(max_examples=100, deadline=None)
def test_levels_tile_the_table(dims, levels, features, log2_table_size, base, growth):
    made = GridLevels(dims, levels, features, log2_table_size, base, growth)
    assert made.resolution[0] == base
    assert (np.diff(made.resolution.astype(int)) >= 0).all()
    assert (made.entries % 8 == 0).all() and (made.entries <= 2**log2_table_size).all()
    assert (made.offset == np.concatenate([[0], np.cumsum(made.entries)[:-1]])).all()
    vertices = made.resolution.astype(float) ** dims
    assert (made.hashed == (vertices > made.entries)).all()
    assert (
        made.entries[made.hashed] == 2**log2_table_size
    ).all()  # so the kernels may mask instead of divide
    assert made.parameters == made.entries.sum() * features


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"dims": 5}, "dims must be a whole number from 2 to 4, got 5"),
        ({"levels": 0}, "levels must be .* got 0"),
        ({"levels": 1.5}, "levels must be .* got 1.5"),
        ({"features": 3}, "features must be 1, 2, 4 or 8, got 3"),
        ({"log2_table_size": 40}, "log2_table_size must be .* got 40"),
        ({"base_resolution": "16"}, "base_resolution must be .* got '16'"),
        ({"per_level_scale": 0.5}, "per_level_scale must be at least 1, got 0.5"),
        ({"per_level_scale": math.nan}, "per_level_scale must be at least 1, got nan"),
        ({"per_level_scale": 8.0}, "resolution of .* use fewer levels or slower growth"),
        ({"log2_table_size": 28, "features": 8}, "lower log2_table_size"),
    ],
)
def test_settings_out_of_range_are_refused_with_their_value(settings_, message):
    with pytest.raises(UserError, match=message):
        GridLevels(**settings_)
