"""The packed file itself: named tensors and a record, versioned, with a checksum.

    bytes  0 ..  3   "FSPK"
           4 ..  5   version, little-endian as all numbers
           6 ..  7   0
           8 .. 15   length of the file
          16 .. 19   length of the header
          20 .. 35   BLAKE2b-128 of everything from byte 36, and of bytes 4 to 19
          36 ..      header (JSON): {"record": {...}, "tensors": [{"name", "shape", "kind", "bytes", ...}]}, deflated with `words.WORDS`
                     known to both sides (version 1: zlib without them)
                     then the tensors' bytes, in the header's order

Kinds: "coded" (quantised, entropy coded, "step" is [m, e] for m 2^e), "symbols" (the same of version 1: with a table of
counts, and the step as a number), "plain" (zlib of little-endian values, "dtype" says which), "bits"
(bool, eight to a byte, zlib) and "raw" (little-endian values as they are). The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...fields.quantisation import dequantise, quantise
from . import entropy
from .words import WORDS

__all__ = ["EXACT", "FINE", "MAGIC", "VERSION", "from_bytes", "is_packed", "to_bytes"]

MAGIC = b"FSPK"
VERSION = 2
EXACT = 32
"""The `bits` of a file that keeps every float as it is."""
FINE = 11
"""Bits of tensors that are few and matter; the most up to which a quantised tensor keeps its values when it is quantised again."""

_FIXED = struct.Struct("<HHQI")
_START = len(MAGIC) + _FIXED.size + 16
_MOST_HEADER = 64 << 20
_MOST_VALUES = 1 << 28
_DTYPES = {"float32": np.float32, "int64": np.int64, "int32": np.int32, "int16": np.int16, "uint8": np.uint8}


def is_packed(path: str | os.PathLike) -> bool:
    """Whether `path` is a file that begins as packed ones do, or is called so."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC or path.suffix.lower() == ".fsp"


def to_bytes(
    record: dict,  # plain JSON data
    quantised: dict[str, Tensor],  # float tensors that may be quantised
    exact: dict[str, Tensor],  # tensors to keep as they are
    bits: int,  # 2 to 16, or EXACT
    fine: dict[str, Tensor] | None = None,  # float tensors that are quantised to at least `fine_bits` bits
    fine_bits: int = FINE,
) -> bytes:
    """One packed file."""
    entries, parts = [], []
    wanted = [(name, tensor, bits) for name, tensor in quantised.items()]
    wanted += [(name, tensor, max(bits, fine_bits)) for name, tensor in (fine or {}).items()]
    for name, tensor, width in wanted:
        if width == EXACT or tensor.numel() == 0:
            entry, data = _plain(tensor, "raw")
        else:
            symbols, step = quantise(tensor, width)
            entry, data = {"kind": "coded", "step": _parts(step)}, entropy.encode(symbols.numpy())
        entries.append({"name": name, "shape": list(tensor.shape), **entry, "bytes": len(data)})
        parts.append(data)
    for name, tensor in exact.items():
        entry, data = _plain(tensor, "plain")
        entries.append({"name": name, "shape": list(tensor.shape), **entry, "bytes": len(data)})
        parts.append(data)
    text = json.dumps(
        {"record": record, "tensors": entries}, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=WORDS)
    header = deflate.compress(text.encode("utf-8")) + deflate.flush()
    body = header + b"".join(parts)
    fixed = _FIXED.pack(VERSION, 0, _START + len(body), len(header))
    return MAGIC + fixed + _checksum(fixed, body) + body


def from_bytes(data: bytes, where: str) -> tuple[dict, dict[str, Tensor]]:
    """The record and all tensors (float32 where they were quantised); `UserError` for anything but a whole packed file."""
    if data[: len(MAGIC)] != MAGIC:
        raise UserError(
            f"{where}: no packed file: it does not begin with FSPK; `fieldstone pack RUN` makes one"
        )
    if len(data) < _START:
        raise UserError(f"{where}: cut short: {len(data)} bytes are less than a packed file's first {_START}")
    fixed = data[len(MAGIC) : len(MAGIC) + _FIXED.size]
    version, _, length, header_length = _FIXED.unpack(fixed)
    if version > VERSION:
        raise UserError(
            f"{where}: a packed file of version {version}, and this Fieldstone reads up to {VERSION}; use a newer one"
        )
    if len(data) < length:
        raise UserError(f"{where}: cut short: {len(data)} bytes of {length}; copy it again")
    body = data[_START:]
    if version < 1 or len(data) != length or _checksum(fixed, body) != data[_START - 16 : _START]:
        raise UserError(f"{where}: damaged: its checksum does not match; copy it again")
    try:
        inflate = zlib.decompressobj(-15, zdict=WORDS) if version > 1 else zlib.decompressobj()
        text = inflate.decompress(body[:header_length], _MOST_HEADER)
        header = json.loads(text)
        tensors, at = {}, header_length
        for entry in header["tensors"]:
            size = int(entry["bytes"])
            if size < 0 or at + size > len(body):
                raise ValueError(f"tensor {entry['name']} lies outside the file")
            tensors[str(entry["name"])] = _tensor(entry, body[at : at + size], where)
            at += size
        return dict(header["record"]), tensors
    except (zlib.error, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{where}: damaged: its header cannot be read ({error!r})") from error


def _checksum(fixed: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(fixed + body, digest_size=16).digest()


def _parts(step: float) -> list[int]:
    """[m, e] with step = m 2^e, m odd or 0: a step has few binary digits and many decimal ones."""
    mantissa, exponent = math.frexp(step)
    whole, exponent = int(mantissa * (1 << 53)), exponent - 53
    while whole and whole % 2 == 0:
        whole, exponent = whole // 2, exponent + 1
    return [whole, exponent if whole else 0]


def _whole(mantissa: int, exponent: int) -> float:
    return math.ldexp(int(mantissa), int(exponent))


def _plain(tensor: Tensor, kind: str) -> tuple[dict, bytes]:
    array = tensor.detach().cpu().contiguous().numpy()
    if array.dtype == np.bool_:
        return {"kind": "bits"}, zlib.compress(np.packbits(array.ravel()).tobytes(), 9)
    name = array.dtype.name
    if name not in _DTYPES:
        raise ValueError(f"a tensor of type {name} has no place in a packed file")
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"kind": kind, "dtype": name}, data if kind == "raw" else zlib.compress(data, 9)


def _tensor(entry: dict, data: bytes, where: str) -> Tensor:
    shape = tuple(int(side) for side in entry["shape"])
    count = math.prod(shape)
    if any(side < 0 for side in shape) or count > _MOST_VALUES:
        raise ValueError(f"tensor {entry['name']} claims the shape {shape}")
    kind = entry["kind"]
    if kind in ("coded", "symbols"):
        step = _whole(*entry["step"]) if kind == "coded" else float(entry["step"])
        if not math.isfinite(step):
            raise ValueError(f"tensor {entry['name']} has the step {step}")
        decode = entropy.decode if kind == "coded" else entropy.decode_counted
        symbols = torch.from_numpy(decode(data, count, where))
        return dequantise(symbols, step).view(shape)
    if kind == "bits":
        inflated = zlib.decompressobj().decompress(data, (count + 7) // 8 + 1)
        flat = np.unpackbits(np.frombuffer(inflated, np.uint8), count=count)
        if len(inflated) != (count + 7) // 8:
            raise ValueError(f"tensor {entry['name']} has another length than its shape")
        return torch.from_numpy(flat.astype(bool)).view(shape)
    if kind not in ("plain", "raw"):
        raise ValueError(f"tensor {entry['name']} is of an unknown kind {kind!r}")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if kind == "plain":
        data = zlib.decompressobj().decompress(data, count * dtype.itemsize + 1)
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"tensor {entry['name']} has another length than its shape")
    return torch.from_numpy(np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)).view(shape)
