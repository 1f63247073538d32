"""Hostile pickles are refused and nothing in them runs; honest ones are read."""

import collections
import os
import pickle
import sys

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from fieldstone.core import legacy_pickle
from fieldstone.core.errors import UserError
from fieldstone.core.legacy_pickle import ObjectArray, Refused, read_pickle

from .conftest import legacy_pickle as old_pickle
from .conftest import mano_dictionary

RAN = []


def note(*arguments):
    RAN.append(arguments)
    return {}


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    def __reduce__(self):
        return note, (), {"a": 1}


HOSTILE = {
    "eval": pickle.dumps(Call(eval, "__import__('os').system('touch /tmp/ran')"), 2),
    "eval, protocol 0": pickle.dumps(Call(eval, "1"), 0),
    "eval, protocol 4": pickle.dumps(Call(eval, "1"), 4),
    "os.system": pickle.dumps(Call(os.system, "true"), 2),
    "own function": pickle.dumps({"v_template": Call(note, 1)}, 2),
    "with state": pickle.dumps(State(), 4),
    "getattr": pickle.dumps(Call(getattr, np, "load"), 2)
    if sys.version_info < (3, 0)
    else b"\x80\x02c__builtin__\ngetattr\n.",
    "numpy.load": b"\x80\x02cnumpy\nload\nU\x05a.npy\x85R.",
    "instance": b"(ios\nsystem\n.",
    "object": b"(cos\nsystem\nU\x04trueo.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "persistent": b"\x80\x02Pabc\n.",
    "extension": b"\x80\x02\x82\x01.",
    "reconstruct another class": b"\x80\x02ccopy_reg\n_reconstructor\ncnumpy\nndarray\nc__builtin__\nobject\nN\x87R.",
    "encode as a way out": b"\x80\x02c_codecs\nencode\nU\x04eviaU\x05rot13\x86R.",
    "name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.view\x93.",
    "ordered dictionary": pickle.dumps(collections.OrderedDict(a=1), 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_nothing_runs(name, monkeypatch):
    for module, function in ((os, "system"), (np, "load")):
        monkeypatch.setattr(module, function, note)
    before = set(sys.modules)
    with pytest.raises(Refused) as error:
        read_pickle(HOSTILE[name], "MODEL.pkl")
    assert not RAN
    assert set(sys.modules) == before
    assert "MODEL.pkl" in str(error.value) and "\n" not in str(error.value)


def test_the_probe_would_have_run():
    """The same bytes do run in Python's own unpickler: the tests above are about something."""
    pickle.loads(HOSTILE["own function"])
    assert RAN and not RAN.clear()


def test_module_never_imports_an_unpickler():
    assert not {"pickle", "importlib", "eval", "exec"} & set(vars(legacy_pickle))


@pytest.mark.parametrize("cut", [1, 10, 100, 1000, 20_000])
def test_truncated_files_are_refused(mano, cut):
    data = old_pickle(mano_dictionary(mano))
    with pytest.raises(Refused, match=r"broken pickle|refused"):
        read_pickle(data[: len(data) // 2 + cut])


def test_random_damage_never_escapes(mano):
    data = bytearray(old_pickle(mano_dictionary(mano)))
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(data)
        for place in generator.integers(0, 400, 4):
            changed[place] = generator.integers(0, 256)
        try:
            read_pickle(bytes(changed))
        except UserError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_of_today_are_read(protocol):
    values = {
        "f8": np.random.default_rng(0).normal(size=(5, 3)),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "big endian": np.arange(4, dtype=">i4"),
        "scalar": np.float64(2.5),
        "csc": csc_matrix(np.diag([1.0, 2.0, 3.0])),
        "csr": csr_matrix(np.array([[0.0, 2.0], [1.0, 0.0]])),
        "text": "lbs",
        "list": [1, 2.5, None, True],
        "set": {"a", "b"},
    }
    found = read_pickle(pickle.dumps(values, protocol)).value
    for key in ("f8", "fortran", "big endian", "scalar"):
        assert np.array_equal(found[key], values[key])
    for key in ("csc", "csr"):
        assert np.array_equal(found[key], values[key].toarray())
    assert (
        found["text"] == "lbs" and found["list"] == [1, 2.5, None, True] and set(found["set"]) == {"a", "b"}
    )


def test_object_arrays_are_known_but_not_built():
    found = read_pickle(pickle.dumps({"a": np.array([{}, 1], dtype=object)}, 2)).value
    assert found["a"] == ObjectArray((2,))


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_chumpy_objects_are_their_arrays(mano, protocol):
    content = read_pickle(old_pickle(mano_dictionary(mano), protocol))
    assert np.array_equal(content.value["shapedirs"], mano.shape_basis)
    assert np.array_equal(content.value["J_regressor"], mano.joint_regressor)
    assert {"chumpy.ch.Ch", "chumpy.reordering.Select", "scipy.sparse.csc.csc_matrix"} <= set(content.globals)
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize(
    "change, words",
    [
        ({"indices": np.array([0, 9, 1])}, "indices below 3, found 9"),
        ({"indptr": np.array([0, 2, 1, 3])}, "do not fit together"),
        ({"_shape": (3, 10**9)}, "at most"),
        ({"data": np.arange(4.0)}, "do not fit together"),
    ],
)
def test_broken_sparse_matrices_are_refused(change, words):
    matrix = csc_matrix(np.diag([1.0, 2.0, 3.0]))
    matrix.__dict__.update(change)
    with pytest.raises(Refused, match=words):
        read_pickle(pickle.dumps({"J": matrix}, 2))


def test_an_array_larger_than_its_bytes_is_refused():
    data = pickle.dumps(np.zeros(3), 2).replace(b"K\x03\x85", b"M\xff\xff\x85")
    with pytest.raises(Refused, match="in 24 bytes"):
        read_pickle(data)
