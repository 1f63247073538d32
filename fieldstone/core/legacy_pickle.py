"""Pickles of MANO and SMPL, read as data: nothing in them is imported, called or executed.

Python's unpickler runs whatever a file names, so a body model from the web can run anything. This reader walks the opcodes
(`pickletools.genops`, which only decodes) on a stack of its own. A class or function in the file is looked up in a short list of
names; for these the reader *itself* knows what arrays they stand for. Any other name, and every opcode that models do not need,
is refused before a value is built from it. Neither chumpy nor scipy is needed: a chumpy `Ch` is its array, a `Select` an index into
one, a sparse matrix its three arrays.
"""

from __future__ import annotations

import io
import pickletools
import re
from dataclasses import dataclass, field

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["ALLOWED", "ObjectArray", "PickleContent", "Refused", "read_pickle"]

MOST_BYTES = 1 << 30
MOST_OPCODES = 2_000_000
MOST_SPARSE = 1 << 27
"""Largest number of entries of a sparse matrix that is filled in."""

ALLOWED: dict[str, str] = {
    "numpy.core.multiarray._reconstruct": "reconstruct",
    "numpy._core.multiarray._reconstruct": "reconstruct",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.core.numeric._frombuffer": "frombuffer",
    "numpy._core.numeric._frombuffer": "frombuffer",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "__builtin__.set": "set",
    "builtins.set": "set",
    "__builtin__.object": "object",
    "builtins.object": "object",
    "copy_reg._reconstructor": "reconstructor",
    "copyreg._reconstructor": "reconstructor",
    "_codecs.encode": "encode",
    "chumpy.ch.Ch": "ch",
    "chumpy.reordering.Select": "select",
    "scipy.sparse.csc.csc_matrix": "csc",
    "scipy.sparse._csc.csc_matrix": "csc",
    "scipy.sparse.csr.csr_matrix": "csr",
    "scipy.sparse._csr.csr_matrix": "csr",
}
"""Name in the file -> what this reader takes it for. Nothing is ever imported by these names."""

_DTYPE = re.compile(r"[|<>=]?[biuf](1|2|4|8)$")


class Refused(UserError):
    """The pickle holds something that a body model has no use for."""


@dataclass
class PickleContent:
    """What a pickle holds, and what it named."""

    value: object
    globals: tuple[str, ...]
    """Names of classes and functions in the file, in order of first use; all from `ALLOWED`."""
    opcodes: int


@dataclass
class ObjectArray:
    """An array of Python objects: known to be there, never built."""

    shape: tuple


@dataclass
class _Name:
    """A class or function of the file, as the kind `ALLOWED` gives it."""

    name: str
    kind: str


@dataclass
class _Record:
    """An instance of a known class on its way: the class's kind, and the state that BUILD brings."""

    kind: str
    state: dict = field(default_factory=dict)
    array: object = None


_MARK = object()


def read_pickle(data: bytes, where: str = "pickle") -> PickleContent:
    """The content of a pickle of protocol 0 to 5: dicts, lists, texts, numbers and NumPy arrays.

    Raises `Refused`, a `UserError`, naming the opcode or name that is not allowed and where in the file it stands. Texts of
    Python 2 are read as latin-1.
    """
    if len(data) > MOST_BYTES:
        raise Refused(f"{where}: expected at most {MOST_BYTES} bytes, found {len(data)}")
    machine = _Machine(where)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(data))):
            if count > MOST_OPCODES:
                raise Refused(f"{where}: expected at most {MOST_OPCODES} opcodes; this is no body model")
            machine.position = position
            if opcode.name == "STOP":
                if len(machine.stack) != 1:
                    raise Refused(f"{where}: broken pickle: {len(machine.stack)} values at its end")
                return PickleContent(_finish(machine.stack[0], where), tuple(machine.names), count + 1)
            machine.step(opcode.name, argument)
    except Refused:
        raise
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Refused(
            f"{where}: broken pickle near byte {machine.position} ({' '.join(str(error).split())[:120]})"
        ) from error
    raise Refused(f"{where}: broken pickle: it has no end")


class _Machine:
    """The pickle machine's stack and memo, over inert values."""

    def __init__(self, where: str) -> None:
        self.where, self.position = where, 0
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.names: dict[str, None] = {}

    def refuse(self, what: str) -> Refused:
        return Refused(
            f"{self.where}: refused at byte {self.position}: {what}; nothing was executed. A MANO or SMPL file holds "
            "arrays only"
        )

    def step(self, name: str, argument: object) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise self.refuse(f"the opcode {name}")

    def since_mark(self) -> list:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise ValueError("stack too short")
        del self.stack[-count:]
        self.stack.append(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise self.refuse(f"setting items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, str | int | float | tuple | bytes | type(None)):
                raise self.refuse(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def append(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise self.refuse(f"appending to a {type(target).__name__}")
        target.extend(items)

    def add(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise self.refuse(f"adding to a {type(target).__name__}")
        target.update(item for item in items if isinstance(item, str | int | float | bytes))

    def look_up(self, name: str) -> None:
        if name not in ALLOWED:
            raise self.refuse(f"the name {name[:100]!r}")
        self.names[name] = None
        self.stack.append(_Name(name, ALLOWED[name]))

    def stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise self.refuse("a name that is not text")
        self.look_up(f"{module}.{name}")

    def put(self, index: object) -> None:
        self.memo[int(index)] = self.stack[-1]

    def reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise self.refuse("a call of something that is not a name from the list")
        self.stack.append(self._call(function, arguments))

    def new_object(self, _: object) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, _Name) or cls.kind not in ("ch", "select", "csc", "csr") or arguments != ():
            raise self.refuse("making an object of a class that is not from the list")
        self.stack.append(_Record(cls.kind))

    def build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Record) and target.kind == "dtype":
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
                target.state["order"] = state[1]
            return
        if isinstance(target, _Record) and target.kind == "ndarray":
            target.array = self._array(state)
            return
        if not isinstance(target, _Record):
            raise self.refuse(f"setting the state of a {type(target).__name__}")
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if not isinstance(state, dict):
            raise self.refuse(f"an object's state of type {type(state).__name__}")
        target.state = state

    def _call(self, function: _Name, arguments: tuple) -> object:
        kind = function.kind
        if kind == "reconstruct":
            return _Record("ndarray")
        if kind == "dtype" and arguments and isinstance(arguments[0], str | bytes):
            return _Record("dtype", {"name": _text(arguments[0])})
        if kind == "scalar" and len(arguments) == 2:
            dtype = self._dtype(arguments[0])
            if dtype is None:
                raise self.refuse("a scalar that is a Python object")
            return np.frombuffer(_bytes(arguments[1]), dtype, 1)[0]
        if kind == "frombuffer" and len(arguments) == 4:
            buffer, dtype, shape, order = arguments
            return _Record("ndarray", array=self._array((1, shape, dtype, order == "F", buffer)))
        if kind == "set":
            items = arguments[0] if arguments else []
            if not isinstance(items, list | tuple | set):
                raise self.refuse("a set of something that is not a list")
            return {item for item in items if isinstance(item, str | int | float | bytes)}
        if kind == "encode" and len(arguments) == 2 and _text(arguments[1]) in ("latin1", "latin-1"):
            return _bytes(arguments[0])
        if kind == "reconstructor" and len(arguments) == 3:
            cls, base, state = arguments
            if isinstance(cls, _Name) and isinstance(base, _Name) and base.kind == "object" and state is None:
                if cls.kind in ("ch", "select", "csc", "csr"):
                    return _Record(cls.kind)
        if kind in ("ch", "select", "csc", "csr") and arguments == ():
            return _Record(kind)
        raise self.refuse(f"this use of {function.name}")

    def _dtype(self, record: object) -> np.dtype | None:
        """The number type, or None for Python objects."""
        if not (isinstance(record, _Record) and record.kind == "dtype"):
            raise self.refuse("an array whose type is not a dtype")
        name = record.state["name"]
        if name.lstrip("|<>=").startswith("O"):
            return None
        if not _DTYPE.match(name):
            raise self.refuse(f"an array of type {name[:20]!r}")
        order = record.state.get("order", "=")
        return np.dtype(name).newbyteorder(order if order in "<>" else "=")

    def _array(self, state: object) -> np.ndarray | ObjectArray:
        if not isinstance(state, tuple) or len(state) != 5:
            raise self.refuse("an array whose state is not (version, shape, type, order, bytes)")
        _, shape, dtype, fortran, raw = state
        shape = tuple(int(n) for n in (shape if isinstance(shape, tuple) else (shape,)))
        kind = self._dtype(dtype)
        if kind is None:
            return ObjectArray(shape)
        raw = _bytes(raw)
        expected = int(np.prod(shape, dtype=object)) * kind.itemsize
        if min(shape, default=1) < 0 or len(shape) > 8 or expected != len(raw):
            raise self.refuse(f"an array of shape {shape} and type {kind} in {len(raw)} bytes")
        return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise TypeError(f"bytes expected, {type(value).__name__} found")


def _finish(value: object, where: str, depth: int = 0) -> object:
    """Records replaced by the arrays they stand for."""
    if depth > 32:
        raise Refused(f"{where}: nested deeper than 32 levels; this is no body model")
    if isinstance(value, dict):
        return {key: _finish(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finish(item, where, depth + 1) for item in value)
    if isinstance(value, _Name):
        raise Refused(f"{where}: holds {value.name} itself as a value; this is no body model")
    if not isinstance(value, _Record):
        return value
    if value.kind == "ndarray":
        if value.array is None:
            raise Refused(f"{where}: holds an array without content")
        return value.array
    if value.kind == "dtype":
        return value.state["name"]
    if value.kind == "ch":
        return _finish(_member(value, "x", where), where, depth + 1)
    if value.kind == "select":
        source = _finish(_member(value, "a", where), where, depth + 1)
        index = np.asarray(_finish(_member(value, "idxs", where), where, depth + 1))
        if not isinstance(source, np.ndarray) or index.dtype.kind not in "iu":
            raise Refused(f"{where}: a chumpy Select without an array and whole numbers")
        if index.size and (index.min() < 0 or index.max() >= source.size):
            raise Refused(
                f"{where}: a chumpy Select: expected indices below {source.size}, found {index.max()}"
            )
        picked = source.reshape(-1)[index.reshape(-1)]
        shape = _finish(value.state.get("preferred_shape", picked.shape), where, depth + 1)
        return picked.reshape(tuple(int(n) for n in np.atleast_1d(np.asarray(shape))))
    return _dense(value, where, depth)


def _member(record: _Record, key: str, where: str) -> object:
    if key not in record.state:
        raise Refused(f"{where}: a chumpy object ({record.kind}) without {key!r}")
    return record.state[key]


def _dense(record: _Record, where: str, depth: int) -> np.ndarray:
    """The sparse matrix, filled in; its indices are checked."""
    state = {key: _finish(value, where, depth + 1) for key, value in record.state.items()}
    shape = state.get("_shape", state.get("shape"))
    try:
        data, indices, pointers = (np.asarray(state[key]) for key in ("data", "indices", "indptr"))
        rows, columns = (int(n) for n in shape)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"{where}: a sparse matrix without data, indices, indptr and shape") from error
    outer, inner = (columns, rows) if record.kind == "csc" else (rows, columns)
    if rows < 0 or columns < 0 or rows * columns > MOST_SPARSE:
        raise Refused(
            f"{where}: a sparse matrix: expected at most {MOST_SPARSE} entries, found {rows} x {columns}"
        )
    right = (
        data.ndim == indices.ndim == pointers.ndim == 1
        and len(data) == len(indices)
        and len(pointers) == outer + 1
        and data.dtype.kind in "fiu"
        and indices.dtype.kind in "iu"
        and pointers.dtype.kind in "iu"
    )
    if (
        not right
        or (np.diff(pointers.astype(np.int64)) < 0).any()
        or pointers[0] != 0
        or pointers[-1] != len(data)
    ):
        raise Refused(f"{where}: a sparse matrix whose arrays do not fit together")
    if len(indices) and (indices.min() < 0 or indices.max() >= inner):
        raise Refused(f"{where}: a sparse matrix: expected indices below {inner}, found {indices.max()}")
    major = np.repeat(np.arange(outer), np.diff(pointers.astype(np.int64)))
    dense = np.zeros((outer, inner))
    np.add.at(dense, (major, indices), data)
    return dense.T if record.kind == "csc" else dense


_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_ACTIONS = {
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "DICT": lambda m, _: (items := m.since_mark(), m.stack.append({}), m.set_items(items)),
    "SETITEM": lambda m, _: (value := m.stack.pop(), key := m.stack.pop(), m.set_items([key, value])),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "ADDITEMS": lambda m, _: m.add(m.since_mark()),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.since_mark(),
    "PUT": lambda m, index: m.put(index),
    "BINPUT": lambda m, index: m.put(index),
    "LONG_BINPUT": lambda m, index: m.put(index),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GET": lambda m, index: m.stack.append(m.memo[int(index)]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, name: m.look_up(".".join(str(name).split(" ", 1))),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
}
