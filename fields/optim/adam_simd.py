"""Adam's update of one vector of entries, written as LLVM IR: the auto-vectoriser gives up on five arrays and a condition."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..vector_ir import F32, I16, I32, LANES, constants, declare, pointer, splat

__all__ = ["adam_lanes"]


@intrinsic
def adam_lanes(typingctx, p, g, m, v, count, first, second, last, lr, beta1, beta2, eps, decay, sparse):
    """Updates `LANES` entries at the addresses p, g, m, v (float32) and count (int16), and zeroes their gradients.

    `first` and `second` are addresses of the bias corrections 1/(1 - beta^t), constant from t = `last` on. With `sparse` entries
    whose gradient is zero stay as they are, and nothing is written if all are.
    """
    i64, f32 = types.int64, types.float32
    signature = types.void(*[i64] * 7, types.int32, *[f32] * 5, types.boolean)
    floats, ints, shorts = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES), ir.VectorType(I16, LANES)
    bits = ir.VectorType(ir.IntType(1), LANES)

    def codegen(context, builder, signature, arguments):
        p, g, m, v, count, first, second, last = arguments[:8]
        lr, beta1, beta2, eps, decay = (splat(builder, value, LANES) for value in arguments[8:13])
        sparse = arguments[13]
        fma = declare(builder, f"llvm.fma.v{LANES}f32", floats, [floats] * 3)
        root = declare(builder, f"llvm.sqrt.v{LANES}f32", floats, [floats])
        smaller = declare(builder, f"llvm.umin.v{LANES}i32", ints, [ints] * 2)
        any_of = declare(builder, f"llvm.vector.reduce.or.v{LANES}i1", ir.IntType(1), [bits])

        def load(address, kind=floats):
            return builder.load(pointer(builder, address, kind), align=2 if kind is shorts else 4)

        def store(value, address):
            builder.store(
                value, pointer(builder, address, value.type), align=2 if value.type == shorts else 4
            )

        gradient = load(g)
        is_set = builder.fcmp_unordered("!=", gradient, constants(floats, 0.0))
        touched = builder.or_(is_set, splat(builder, builder.not_(sparse), LANES))
        with builder.if_then(builder.call(any_of, [touched])):
            one = constants(floats, 1.0)
            value, before, square, times = load(p), load(m), load(v), load(count, shorts)
            total = builder.call(fma, [decay, value, gradient])
            mean = builder.call(fma, [beta1, before, builder.fmul(builder.fsub(one, beta1), total)])
            spread = builder.fmul(builder.fmul(builder.fsub(one, beta2), total), total)
            spread = builder.call(fma, [beta2, square, spread])
            # counts saturate: the corrections are 1 long before
            counted = builder.add(builder.zext(times, ints), constants(ints, 1))
            counted = builder.call(smaller, [counted, constants(ints, 32767)])
            row = builder.call(smaller, [counted, splat(builder, last, LANES)])
            early = builder.icmp_unsigned("<", row, splat(builder, last, LANES))
            tail = builder.load(pointer(builder, _entry(builder, first, last), F32), align=4)
            final1 = splat(builder, tail, LANES)
            tail = builder.load(pointer(builder, _entry(builder, second, last), F32), align=4)
            final2 = splat(builder, tail, LANES)
            with builder.if_else(builder.call(any_of, [early])) as (then, otherwise):
                with then:  # looking corrections up lane by lane is slow, and needed in the first steps only
                    looked1, looked2 = (_gather(builder, table, row) for table in (first, second))
                    then_block = builder.block
                with otherwise:
                    other_block = builder.block
            correction1, correction2 = builder.phi(floats), builder.phi(floats)
            for phi, looked, final in ((correction1, looked1, final1), (correction2, looked2, final2)):
                phi.add_incoming(looked, then_block)
                phi.add_incoming(final, other_block)
            size = builder.fadd(builder.call(root, [builder.fmul(spread, correction2)]), eps)
            change = builder.fdiv(builder.fmul(lr, builder.fmul(mean, correction1)), size)
            store(builder.select(touched, builder.fsub(value, change), value), p)
            store(builder.select(touched, mean, before), m)
            store(builder.select(touched, spread, square), v)
            store(builder.select(touched, builder.trunc(counted, shorts), times), count)
            store(constants(floats, 0.0), g)
        return context.get_dummy_value()

    return signature, codegen


def _entry(builder: ir.IRBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
    wide = builder.zext(index, table.type)
    return builder.add(table, builder.mul(wide, ir.Constant(table.type, 4)))


def _gather(builder: ir.IRBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
    """The float32 at table + 4 * index, lane by lane."""
    result = ir.Constant(ir.VectorType(F32, LANES), ir.Undefined)
    for lane in range(LANES):
        at = ir.Constant(I32, lane)
        address = _entry(builder, table, builder.extract_element(index, at))
        result = builder.insert_element(result, builder.load(pointer(builder, address, F32), align=4), at)
    return result
