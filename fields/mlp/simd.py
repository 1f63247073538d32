"""Register-blocked vector kernels, written as LLVM IR so that Numba can inline them.

A tile computes
`C[m, :] (+)= sum_k A[m, k] * B[k, :]` for `rows` rows of A and `vectors * LANES` columns of B with one fused
multiply-add per element: every load of B serves `rows` rows, every broadcast of A serves all columns. On a CPU with 16 vector registers
4 x 3 vectors is the largest tile that leaves room for its operands; it needs 7 loads for 12 multiply-adds.

All addresses are plain integers (bytes), strides are in bytes, elements are float32.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..vector_ir import F32, I32, I64, LANES, declare, pointer, splat, strided

__all__ = [
    "dense_corners",
    "hashed_corners",
    "interpolate_row",
    "prefetch",
    "scatter_row",
    "tile_rows4",
    "tile_weight_gradient",
    "transpose8",
]


def _make_tile(rows: int, vectors: int, lanes: int, accumulate: bool):
    """A tile intrinsic: (a, a_row, a_k, b, b_k, c, c_row, k, relu) -> None; `k` >= 1 products are summed."""
    vector_type = ir.VectorType(F32, lanes)

    @intrinsic
    def tile(typingctx, a, a_row, a_k, b, b_k, c, c_row, k, relu):
        signature = types.void(*([types.int64] * 8), types.boolean)

        def codegen(context, builder, signature, arguments):
            a, a_row, a_k, b, b_k, c, c_row, k, relu = arguments
            fma = declare(builder, f"llvm.fma.v{lanes}f32", vector_type, [vector_type] * 3)
            maximum = declare(builder, f"llvm.maxnum.v{lanes}f32", vector_type, [vector_type] * 2)
            zero = ir.Constant(vector_type, [0.0] * lanes)
            step = lanes * 4

            def c_address(i, j):
                row = builder.add(c, builder.mul(c_row, ir.Constant(I64, i)))
                return pointer(builder, builder.add(row, ir.Constant(I64, j * step)), vector_type)

            def load(address):
                return builder.load(address, align=4)

            first = [
                [load(c_address(i, j)) if accumulate else zero for j in range(vectors)] for i in range(rows)
            ]
            row_offset = [builder.mul(a_row, ir.Constant(I64, i)) for i in range(rows)]
            before = builder.block
            body = builder.append_basic_block("tile.body")
            after = builder.append_basic_block("tile.after")
            builder.branch(body)
            builder.position_at_end(body)
            counter = builder.phi(I64)
            a_now, b_now = builder.phi(I64), builder.phi(I64)
            counter.add_incoming(ir.Constant(I64, 0), before)
            a_now.add_incoming(a, before)
            b_now.add_incoming(b, before)
            sums = [[builder.phi(vector_type) for _ in range(vectors)] for _ in range(rows)]
            right = [
                load(pointer(builder, builder.add(b_now, ir.Constant(I64, j * step)), vector_type))
                for j in range(vectors)
            ]
            updated = []
            for i in range(rows):
                scalar = load(pointer(builder, builder.add(a_now, row_offset[i]), F32))
                left = splat(builder, scalar, lanes)
                updated.append([builder.call(fma, [left, right[j], sums[i][j]]) for j in range(vectors)])
            following = builder.add(counter, ir.Constant(I64, 1))
            counter.add_incoming(following, body)
            a_now.add_incoming(builder.add(a_now, a_k), body)
            b_now.add_incoming(builder.add(b_now, b_k), body)
            for i in range(rows):
                for j in range(vectors):
                    sums[i][j].add_incoming(first[i][j], before)
                    sums[i][j].add_incoming(updated[i][j], body)
            builder.cbranch(builder.icmp_signed("<", following, k), body, after)
            builder.position_at_end(after)
            for i in range(rows):
                for j in range(vectors):
                    value = updated[i][j]
                    clipped = builder.call(maximum, [value, zero])
                    builder.store(builder.select(relu, clipped, value), c_address(i, j), align=4)
            return context.get_dummy_value()

        return signature, codegen

    return tile


tile_rows4 = _make_tile(4, 3, LANES, accumulate=False)
"""4 rows by 3 vectors, C = A B, optionally clipped at zero: layers forward, and gradients to their input."""
tile_weight_gradient = _make_tile(4 * (LANES // 8), 16 // LANES, LANES, accumulate=True)
"""4 rows by 16 columns (8 by 16 with 16 lanes), C += A B: gradients of weights, summed over samples."""


@intrinsic
def transpose8(typingctx, source, source_row, target, target_row):
    """Transposes an 8 x 8 block of float32 in registers: target[j, i] = source[i, j]; strides in bytes."""
    signature = types.void(types.int64, types.int64, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        source, source_row, target, target_row = arguments
        vector = ir.VectorType(F32, 8)

        def shuffle(x, y, order):
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), 8), order))

        def address(base, stride, i):
            return pointer(builder, builder.add(base, builder.mul(stride, ir.Constant(I64, i))), vector)

        rows = [builder.load(address(source, source_row, i), align=4) for i in range(8)]
        pairs = []
        for i in range(0, 8, 2):
            pairs.append(shuffle(rows[i], rows[i + 1], [0, 8, 1, 9, 4, 12, 5, 13]))
            pairs.append(shuffle(rows[i], rows[i + 1], [2, 10, 3, 11, 6, 14, 7, 15]))
        quads = []
        for i in (0, 4):
            quads.append(shuffle(pairs[i], pairs[i + 2], [0, 1, 8, 9, 4, 5, 12, 13]))
            quads.append(shuffle(pairs[i], pairs[i + 2], [2, 3, 10, 11, 6, 7, 14, 15]))
            quads.append(shuffle(pairs[i + 1], pairs[i + 3], [0, 1, 8, 9, 4, 5, 12, 13]))
            quads.append(shuffle(pairs[i + 1], pairs[i + 3], [2, 3, 10, 11, 6, 7, 14, 15]))
        for i in range(4):
            low = shuffle(quads[i], quads[i + 4], [0, 1, 2, 3, 8, 9, 10, 11])
            high = shuffle(quads[i], quads[i + 4], [4, 5, 6, 7, 12, 13, 14, 15])
            builder.store(low, address(target, target_row, i), align=4)
            builder.store(high, address(target, target_row, i + 4), align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def prefetch(typingctx, address):
    """Asks the CPU to bring the cache line at `address` near; never faults."""
    signature = types.void(types.int64)

    def codegen(context, builder, signature, arguments):
        byte_pointer = ir.IntType(8).as_pointer()
        i32 = ir.IntType(32)
        function = declare(builder, "llvm.prefetch.p0", ir.VoidType(), [byte_pointer, i32, i32, i32])
        pointer = builder.inttoptr(arguments[0], byte_pointer)
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return signature, codegen


def _row_address(builder, table, index, stride, c, features):
    number = builder.load(strided(builder, index, stride, c, ir.IntType(32)), align=4)
    offset = builder.mul(builder.zext(number, I64), ir.Constant(I64, 4 * features))
    return pointer(builder, builder.add(table, offset), ir.VectorType(F32, features))


@intrinsic
def interpolate_row(typingctx, table, index, weight, stride, out, out_stride, features, corners):
    """out[f] = sum over c of weight[c] * table[index[c], f], one vector load and one multiply-add a corner.

    Corner c's uint32 index and float32 weight lie c * stride bytes from `index` and `weight`; out[f] lies f * out_stride bytes
    from `out`. `features` and `corners` are tuples: their lengths are the counts, known when this is compiled.
    """
    signature = types.void(*([types.int64] * 6), features, corners)
    width, count = features.count, corners.count

    def codegen(context, builder, signature, arguments):
        table, index, weight, stride, out, out_stride = arguments[:6]
        vector = ir.VectorType(F32, width)
        fma = declare(builder, f"llvm.fma.v{width}f32", vector, [vector] * 3)
        total = ir.Constant(vector, [0.0] * width)
        for c in range(count):
            row = builder.load(_row_address(builder, table, index, stride, c, width), align=4)
            scalar = builder.load(strided(builder, weight, stride, c, F32), align=4)
            total = builder.call(fma, [splat(builder, scalar, width), row, total])
        for f in range(width):
            value = builder.extract_element(total, ir.Constant(ir.IntType(32), f))
            builder.store(value, strided(builder, out, out_stride, f, F32), align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def scatter_row(typingctx, table, index, weight, stride, source, source_stride, features, corners):
    """table[index[c], f] += weight[c] * source[f] for all corners, one after another; the adjoint of `interpolate_row`."""
    signature = types.void(*([types.int64] * 6), features, corners)
    width, count = features.count, corners.count

    def codegen(context, builder, signature, arguments):
        table, index, weight, stride, source, source_stride = arguments[:6]
        vector = ir.VectorType(F32, width)
        fma = declare(builder, f"llvm.fma.v{width}f32", vector, [vector] * 3)
        gradient = ir.Constant(vector, ir.Undefined)
        for f in range(width):
            value = builder.load(strided(builder, source, source_stride, f, F32), align=4)
            gradient = builder.insert_element(gradient, value, ir.Constant(ir.IntType(32), f))
        for c in range(count):
            address = _row_address(builder, table, index, stride, c, width)
            scalar = builder.load(strided(builder, weight, stride, c, F32), align=4)
            row = builder.load(address, align=4)
            builder.store(builder.call(fma, [splat(builder, scalar, width), gradient, row]), address, align=4)
        return context.get_dummy_value()

    return signature, codegen


def _make_corners(hashed: bool):
    """The rows and weights of all corners of `LANES` points: (x, x_row, scale, factors, entries, smooth, index, weight, frac, stride,
    dims) -> the largest row.

    Coordinate d of the points lies at x + d * x_row, all addresses in bytes; `factors` points to one uint32 a dimension (hash
    primes, or strides of a row-major level). Corner c goes to index + c * stride and weight + c * stride, the position within the
    cell to frac + d * stride. Corner bit d is the upper side along dimension d. `dims` is a tuple of that length.
    """
    lanes = LANES
    floats, ints = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)

    @intrinsic
    def corners(typingctx, x, x_row, scale, factors, entries, smooth, index, weight, frac, stride, dims):
        i64 = types.int64
        signature = types.uint32(
            i64, i64, types.float32, i64, types.uint32, types.boolean, i64, i64, i64, i64, dims
        )
        count = dims.count

        def codegen(context, builder, signature, arguments):
            x, x_row, scale, factors, entries, smooth, index, weight, frac, stride = arguments[:10]

            def function(name, result, operands):
                return declare(builder, name, result, operands)

            fma = function(f"llvm.fma.v{lanes}f32", floats, [floats] * 3)
            floor = function(f"llvm.floor.v{lanes}f32", floats, [floats])
            smaller = function(f"llvm.umin.v{lanes}i32", ints, [ints] * 2)
            larger = function(f"llvm.umax.v{lanes}i32", ints, [ints] * 2)
            largest = function(f"llvm.vector.reduce.umax.v{lanes}i32", I32, [ints])

            def constant(value):
                return ir.Constant(floats, [value] * lanes)

            slope = splat(builder, scale, lanes)
            rows: list[ir.Value] = []
            shares: list[ir.Value] = []
            for d in range(count):
                coordinate = builder.load(strided(builder, x, x_row, d, floats), align=4)
                position = builder.call(fma, [slope, coordinate, constant(0.5)])
                cell = builder.call(floor, [position])
                inside = builder.fsub(position, cell)
                builder.store(inside, strided(builder, frac, stride, d, floats), align=4)
                square = builder.fmul(inside, inside)
                curve = builder.fmul(square, builder.call(fma, [constant(-2.0), inside, constant(3.0)]))
                upper = builder.select(smooth, curve, inside)
                lower = builder.fsub(constant(1.0), upper)
                address = strided(builder, factors, ir.Constant(I64, 4), d, I32)
                factor = splat(builder, builder.load(address, align=4), lanes)
                low = builder.mul(builder.fptosi(cell, ints), factor)
                high = builder.add(low, factor)
                if d == 0:
                    rows, shares = [low, high], [lower, upper]
                else:
                    join = builder.xor if hashed else builder.add
                    rows = [join(row, side) for side in (low, high) for row in rows]
                    shares = [builder.fmul(share, side) for side in (lower, upper) for share in shares]
            size = splat(builder, entries, lanes)
            mask = builder.sub(size, ir.Constant(ints, [1] * lanes))
            most = ir.Constant(ints, [0] * lanes)
            for c in range(1 << count):
                if hashed:  # a hashed level is full, hence a power of two
                    row = builder.and_(rows[c], mask)
                else:  # the difference wraps to a large number where the row is inside already
                    row = builder.call(smaller, [rows[c], builder.sub(rows[c], size)])
                    most = builder.call(larger, [most, row])
                builder.store(row, strided(builder, index, stride, c, ints), align=4)
                builder.store(shares[c], strided(builder, weight, stride, c, floats), align=4)
            return ir.Constant(I32, 0) if hashed else builder.call(largest, [most])

        return signature, codegen

    return corners


hashed_corners = _make_corners(hashed=True)
"""Rows by hashing: coordinates times primes, joined by exclusive or, modulo a power of two."""
dense_corners = _make_corners(hashed=False)
"""Rows in row-major order, one table length taken off where they pass the end; a result >= entries asks for a true modulo."""
