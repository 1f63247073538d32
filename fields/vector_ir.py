"""What our kernels written as LLVM IR share: lane counts, types, and small builders.

LLVM's auto-vectoriser keeps neither a block of accumulators in registers nor a loop over five arrays in vectors; functions
made with Numba's `intrinsic` from these pieces do. Addresses are plain integers (bytes), strides are in bytes.
"""

from __future__ import annotations

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

__all__ = ["F32", "I16", "I32", "I64", "LANES", "constants", "declare", "pointer", "splat", "strided"]


def _lanes() -> int:
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8


LANES = _lanes()
"""float32 lanes of one vector: 16 with AVX-512, else 8 (two NEON registers on arm64)."""

F32 = ir.FloatType()
I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    """`address` (i64) as a pointer to `kind`."""
    return builder.inttoptr(address, kind.as_pointer())


def strided(builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, i: int, kind: ir.Type) -> ir.Value:
    """A pointer to `kind` at base + i * stride."""
    return pointer(builder, builder.add(base, builder.mul(stride, ir.Constant(I64, i))), kind)


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """`value` in every lane of a vector of its type."""
    vector = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), mask)


def constants(vector: ir.VectorType, value: float | int) -> ir.Constant:
    """`value` in every lane of `vector`."""
    return ir.Constant(vector, [value] * vector.count)


def declare(builder: ir.IRBuilder, name: str, result: ir.Type, operands: list[ir.Type]) -> ir.Function:
    """The LLVM function `name`, declared in the module that is being built."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, operands), name)
