"""Four doubles that the compiler keeps in one vector register: three axes, and a fourth that is idle.

Compiled code loads them from the state, calculates with them as with numbers, and stores them again. Each operation is
rounded as that of a single double is, whatever the width of the machine's registers: the rows are the same to the byte.
Where numba is switched off they are arrays of four.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import config, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from hypnic.layout import LANES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Lanes = NDArray[np.float64]

__all__ = [
    "arranged",
    "load",
    "pack",
    "part",
    "same",
    "sample",
    "store",
    "sums",
    "wide",
    "with_fourth",
    "within",
]


def load(F: NDArray[np.float64], position: int) -> Lanes:
    """Return the four numbers at a position of the state."""
    return F[position : position + LANES].copy()


def store(F: NDArray[np.float64], position: int, value: Lanes) -> None:
    """Write four numbers to a position of the state."""
    F[position : position + LANES] = value


def pack(x: float, y: float, z: float) -> Lanes:
    """Return three numbers and a zero."""
    return np.array([x, y, z, 0.0])


def sample(xyz: NDArray[np.float32], row: int) -> Lanes:
    """Return the three numbers of a row, which is not negative, of three columns without gaps, and a zero."""
    return np.append(xyz[row].astype(float), 0.0)


def wide(x: float) -> Lanes:
    """Return one number four times."""
    return np.full(LANES, x)


def part(value: Lanes, lane: int) -> float:
    """Return the number in one lane, a constant."""
    return float(value[lane])


def with_fourth(value: Lanes, other: Lanes) -> Lanes:
    """Return the three numbers with the fourth of `other`."""
    return np.append(value[:3], other[3])


def arranged(value: Lanes, first: int, second: int, third: int) -> Lanes:
    """Return the numbers of three lanes, which are constants, in that order, and the fourth lane."""
    return value[[first, second, third, 3]]


def sums(first: Lanes, second: Lanes, third: Lanes, fourth: Lanes) -> Lanes:
    """Return the sums over the three axes of four values, each ``(x + y) + z``."""
    x, y, z, _ = np.array([first, second, third, fourth]).T
    return np.asarray((x + y) + z)


def same(value: Lanes, other: Lanes) -> bool:
    """Return whether all four are equal."""
    return bool((value == other).all())


def within(value: Lanes, limit: float) -> bool:
    """Return whether none of the four is more than `limit` from zero, or is NaN."""
    return bool((np.abs(value) <= limit).all())


if not config.DISABLE_JIT:
    from llvmlite import ir

    _VECTOR = ir.VectorType(ir.DoubleType(), LANES)
    _INDEX = ir.IntType(32)
    _BITS = ir.IntType(LANES)

    class _LanesType(types.Type):
        """What numba takes them for."""

        def __init__(self) -> None:
            super().__init__(name="Lanes")

    _LANES = _LanesType()

    @register_model(_LanesType)
    class _LanesModel(models.PrimitiveModel):
        """One vector."""

        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, _VECTOR)

    def _arithmetic(operation: Any, name: str) -> None:
        @type_callable(operation)
        def typed(context: Any) -> Callable[..., Any]:
            def both(left: Any, right: Any) -> Any:
                return _LANES if left is _LANES and right is _LANES else None

            return both

        @lower_builtin(operation, _LanesType, _LanesType)
        def lowered(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, name)(*values)

    for _operation, _name in (
        (operator.add, "fadd"),
        (operator.sub, "fsub"),
        (operator.mul, "fmul"),
        (operator.truediv, "fdiv"),
    ):
        _arithmetic(_operation, _name)

    def _pointer(context: Any, builder: Any, kind: Any, array: Any, position: Any) -> Any:
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [position]), _VECTOR.as_pointer())

    def _inserted(builder: Any, values: Any, start: Any) -> Any:
        for lane, value in enumerate(values):
            start = builder.insert_element(start, value, _INDEX(lane))
        return start

    def _splat(builder: Any, value: Any) -> Any:
        return _inserted(builder, [value] * LANES, ir.Constant(_VECTOR, ir.Undefined))

    def _all(builder: Any, bits: Any) -> Any:
        return builder.icmp_unsigned("==", builder.bitcast(bits, _BITS), ir.Constant(_BITS, 2**LANES - 1))

    @intrinsic
    def load(context: Any, F: Any, position: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.load(_pointer(target, builder, signature.args[0], *values), align=8)

        return _LANES(F, types.intp), code

    @intrinsic
    def store(context: Any, F: Any, position: Any, value: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            builder.store(values[2], _pointer(target, builder, signature.args[0], *values[:2]), align=8)
            return target.get_dummy_value()

        return types.void(F, types.intp, _LANES), code

    @intrinsic
    def pack(context: Any, x: Any, y: Any, z: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _inserted(builder, values, ir.Constant(_VECTOR, [0.0] * LANES))

        return _LANES(types.float64, types.float64, types.float64), code

    @intrinsic
    def sample(context: Any, xyz: Any, row: Any) -> Any:
        if xyz.layout != "C" or xyz.dtype != types.float32:
            return None

        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = target.make_array(signature.args[0])(target, builder, values[0]).data
            first = builder.mul(values[1], ir.Constant(values[1].type, 3))
            places = [builder.add(first, ir.Constant(first.type, axis)) for axis in range(3)]
            numbers = [builder.load(builder.gep(data, [place])) for place in places]
            # Made wide together.
            narrow = ir.Constant(ir.VectorType(ir.FloatType(), LANES), [0.0] * LANES)
            return builder.fpext(_inserted(builder, numbers, narrow), _VECTOR)

        return _LANES(xyz, types.intp), code

    @intrinsic
    def wide(context: Any, x: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _splat(builder, values[0])

        return _LANES(types.float64), code

    @intrinsic(prefer_literal=True)
    def part(context: Any, value: Any, lane: Any) -> Any:
        which = lane.literal_value

        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.extract_element(values[0], _INDEX(which))

        return types.float64(_LANES, lane), code

    def _mixed(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
        """Lanes of two values: from 0 those of the first, from 4 those of the second."""
        return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INDEX, LANES), order))

    @intrinsic
    def with_fourth(context: Any, value: Any, other: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _mixed(builder, *values, [0, 1, 2, 7])

        return _LANES(_LANES, _LANES), code

    @intrinsic
    def sums(context: Any, first: Any, second: Any, third: Any, fourth: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            # All x in one value, all y, all z: half as many moves between lanes as four sums on their own.
            pairs = values[:2], values[2:]
            low, later_low = (_mixed(builder, *pair, [0, 4, 2, 6]) for pair in pairs)
            high, later_high = (_mixed(builder, *pair, [1, 5, 3, 7]) for pair in pairs)
            x = _mixed(builder, low, later_low, [0, 1, 4, 5])
            y = _mixed(builder, high, later_high, [0, 1, 4, 5])
            z = _mixed(builder, low, later_low, [2, 3, 6, 7])
            return builder.fadd(builder.fadd(x, y), z)

        return _LANES(_LANES, _LANES, _LANES, _LANES), code

    @intrinsic(prefer_literal=True)
    def arranged(context: Any, value: Any, first: Any, second: Any, third: Any) -> Any:
        order = [lane.literal_value for lane in (first, second, third)] + [LANES - 1]

        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _mixed(builder, values[0], values[0], order)

        return _LANES(_LANES, first, second, third), code

    @intrinsic
    def same(context: Any, value: Any, other: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _all(builder, builder.fcmp_ordered("==", *values))

        return types.boolean(_LANES, _LANES), code

    @intrinsic
    def within(context: Any, value: Any, limit: Any) -> Any:
        def code(target: Any, builder: Any, signature: Any, values: Any) -> Any:
            above = builder.fcmp_ordered(">=", values[0], _splat(builder, builder.fneg(values[1])))
            below = builder.fcmp_ordered("<=", values[0], _splat(builder, values[1]))
            return _all(builder, builder.and_(above, below))

        return types.boolean(_LANES, types.float64), code
