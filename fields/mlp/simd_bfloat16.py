"""Register-blocked bfloat16 products for CPUs with AVX-512 BF16, written as LLVM IR.

The instruction (vdpbf16ps) adds the products of two neighbouring bfloat16 values to each float32 lane. Two layouts of a block of
activations (features, width), bfloat16:

- pairs: 32-bit words (features / 2, width), a word holds features 2k (low half) and 2k + 1 of one sample; what a layer multiplies;
- rows: (features, width) as it stands, so that a 32-bit word holds two neighbouring samples of one feature; what the sum over
  samples in a weight's gradient multiplies.

Weights are pairs along the summed axis. All addresses are plain integers (bytes).
"""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..vector_ir import F32, I16, I32, I64, constants, declare, pointer, splat

__all__ = [
    "available",
    "convert_rows",
    "split_pairs",
    "tile_forward",
    "tile_kept",
    "tile_masked",
    "tile_output",
    "tile_weight_gradient",
]


@cache
def available() -> bool:
    """Whether this CPU and this LLVM have the instruction."""
    return bool(llvm.get_host_cpu_features().get("avx512bf16")) and llvm.llvm_version_info[0] >= 17


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_LANES = 16
_BF16 = _BFloat()
_FLOATS, _WORDS, _HALVES = (ir.VectorType(kind, _LANES) for kind in (F32, I32, I16))
_NARROW, _PAIRS = ir.VectorType(_BF16, _LANES), ir.VectorType(_BF16, 2 * _LANES)


def _at(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int) -> ir.Value:
    return builder.add(base, ir.Constant(I64, offset) if isinstance(offset, int) else offset)


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.load(pointer(builder, address, kind), align=2 if kind == _HALVES else 4)


def _store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, pointer(builder, address, value.type), align=2 if value.type == _HALVES else 4)


def _narrow(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """16 float32 rounded to bfloat16, as 16-bit words."""
    return builder.bitcast(builder.fptrunc(value, _NARROW), _HALVES)


def _pair(builder: ir.IRBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    high = builder.shl(builder.zext(high, _WORDS), constants(_WORDS, 16))
    return builder.or_(builder.zext(low, _WORDS), high)


def _multiply(
    builder: ir.IRBuilder, rows: int, vectors: int, first, a, a_row, b, b_k, k
) -> list[list[ir.Value]]:
    """first[i][j] + the sum over k words of A[i, k] . B[k, j]; returns the sums, and leaves the builder after the loop."""
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    product = declare(builder, name, _FLOATS, [_FLOATS, _PAIRS, _PAIRS])
    row_offset = [builder.mul(a_row, ir.Constant(I64, i)) for i in range(rows)]
    before = builder.block
    body, after = builder.append_basic_block("bf16.body"), builder.append_basic_block("bf16.after")
    builder.branch(body)
    builder.position_at_end(body)
    counter, a_now, b_now = builder.phi(I64), builder.phi(I64), builder.phi(I64)
    counter.add_incoming(ir.Constant(I64, 0), before)
    a_now.add_incoming(a, before)
    b_now.add_incoming(b, before)
    sums = [[builder.phi(_FLOATS) for _ in range(vectors)] for _ in range(rows)]
    right = [
        builder.bitcast(_load(builder, _at(builder, b_now, 4 * _LANES * j), _WORDS), _PAIRS)
        for j in range(vectors)
    ]
    updated = []
    for i in range(rows):
        word = builder.load(pointer(builder, _at(builder, a_now, row_offset[i]), I32), align=4)
        left = builder.bitcast(splat(builder, word, _LANES), _PAIRS)
        updated.append([builder.call(product, [sums[i][j], left, right[j]]) for j in range(vectors)])
    following = builder.add(counter, ir.Constant(I64, 1))
    counter.add_incoming(following, body)
    a_now.add_incoming(_at(builder, a_now, 4), body)
    b_now.add_incoming(builder.add(b_now, b_k), body)
    for i in range(rows):
        for j in range(vectors):
            sums[i][j].add_incoming(first[i][j], before)
            sums[i][j].add_incoming(updated[i][j], body)
    builder.cbranch(builder.icmp_signed("<", following, k), body, after)
    builder.position_at_end(after)
    return updated


def _make_layer(rows: int, vectors: int, clip: bool, mask: bool, keep: bool, narrow: bool):
    """A layer's tile: (a, a_row, b, k, out, kept, passed, width) -> None.

    `rows` outputs of `vectors` * 16 samples; A are weights (pairs, rows `a_row` bytes apart), B a block in pairs of `width` samples,
    `k` words summed. `clip`: negative results become zero. `mask`: results become zero where `passed` (rows, bfloat16) is zero.
    Goes to `out` as pairs (`narrow`) or as float32 rows; with `keep` also to `kept` as bfloat16 rows.
    """

    @intrinsic
    def tile(typingctx, a, a_row, b, k, out, kept, passed, width):
        signature = types.void(*[types.int64] * 8)

        def codegen(context, builder, signature, arguments):
            a, a_row, b, k, out, kept, passed, width = arguments
            wide, short = builder.mul(width, ir.Constant(I64, 4)), builder.mul(width, ir.Constant(I64, 2))
            zero = constants(_FLOATS, 0.0)
            sums = _multiply(
                builder, rows, vectors, [[zero] * vectors for _ in range(rows)], a, a_row, b, wide, k
            )

            def place(base, stride, i, j, size):
                return _at(
                    builder, _at(builder, base, builder.mul(stride, ir.Constant(I64, i))), j * size * _LANES
                )

            for j in range(vectors):
                low = None
                for i in range(rows):
                    value = sums[i][j]
                    if clip:
                        value = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
                    if mask:
                        through = _load(builder, place(passed, short, i, j, 2), _HALVES)
                        through = builder.icmp_unsigned("!=", through, constants(_HALVES, 0))
                        value = builder.select(through, value, zero)
                    if not narrow:
                        _store(builder, value, place(out, wide, i, j, 4))
                        continue
                    half = _narrow(builder, value)
                    if keep:
                        _store(builder, half, place(kept, short, i, j, 2))
                    if i % 2 == 0:
                        low = half
                    else:
                        _store(builder, _pair(builder, low, half), place(out, wide, i // 2, j, 4))
            return context.get_dummy_value()

        return signature, codegen

    return tile


tile_forward = _make_layer(8, 3, clip=True, mask=False, keep=False, narrow=True)
"""8 outputs of 48 samples, clipped at zero, as pairs."""
tile_kept = _make_layer(8, 3, clip=True, mask=False, keep=True, narrow=True)
"""The same, also as rows."""
tile_masked = _make_layer(8, 3, clip=False, mask=True, keep=True, narrow=True)
"""Gradients of 8 inputs: zero where the activation was, as pairs and as rows."""
tile_output = _make_layer(8, 3, clip=False, mask=False, keep=False, narrow=False)
"""8 outputs as float32 rows."""


@intrinsic
def tile_weight_gradient(typingctx, a, a_row, b, b_k, k, c, c_row):
    """C (8 outputs, 32 inputs) += sum over k words of A[i, k] . B[k, j]: float32 sums over pairs of samples.

    A are gradients as rows, B the layer's inputs as rows transposed word by word: (samples / 2, inputs).
    """
    signature = types.void(*[types.int64] * 7)

    def codegen(context, builder, signature, arguments):
        a, a_row, b, b_k, k, c, c_row = arguments

        def place(i, j):
            row = _at(builder, c, builder.mul(c_row, ir.Constant(I64, i)))
            return _at(builder, row, 4 * _LANES * j)

        first = [[_load(builder, place(i, j), _FLOATS) for j in range(2)] for i in range(8)]
        sums = _multiply(builder, 8, 2, first, a, a_row, b, b_k, k)
        for i in range(8):
            for j in range(2):
                _store(builder, sums[i][j], place(i, j))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def convert_rows(typingctx, source, source_row, pairs, rows, row):
    """Two float32 rows of 16 samples, `source_row` bytes apart, to one row of pairs and, unless `rows` is 0, two bfloat16 rows
    `row` bytes apart."""
    signature = types.void(*[types.int64] * 5)

    def codegen(context, builder, signature, arguments):
        source, source_row, pairs, rows, row = arguments
        low = _narrow(builder, _load(builder, source, _FLOATS))
        high = _narrow(builder, _load(builder, builder.add(source, source_row), _FLOATS))
        _store(builder, _pair(builder, low, high), pairs)
        with builder.if_then(builder.icmp_signed("!=", rows, ir.Constant(I64, 0))):
            _store(builder, low, rows)
            _store(builder, high, builder.add(rows, row))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def split_pairs(typingctx, pairs, rows, row):
    """16 words of pairs to two bfloat16 rows, `row` bytes apart."""
    signature = types.void(*[types.int64] * 3)

    def codegen(context, builder, signature, arguments):
        pairs, rows, row = arguments
        words = _load(builder, pairs, _WORDS)
        _store(builder, builder.trunc(words, _HALVES), rows)
        high = builder.trunc(builder.lshr(words, constants(_WORDS, 16)), _HALVES)
        _store(builder, high, builder.add(rows, row))
        return context.get_dummy_value()

    return signature, codegen
