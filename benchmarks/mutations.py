"""Model files and tables made hostile, for `benchmarks.fuzz`: the same seed and number make the same file.

A mutation of a model either leaves the digests as they were, so that they must be what stops it, or puts all of them
right, so that the parsers behind them are reached.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

MANIFEST, DIGEST, BLOBS = "manifest.json", "manifest.sha256", "blobs/"
Entries = dict[str, bytes]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.sentinel), "w"))


def code_texts(sentinel: Path) -> list[str]:
    """Return texts that make a file where somebody evaluates, formats or hands them to a shell."""
    return [
        f"__import__('os').system('touch {sentinel}')",
        f"$(touch {sentinel})",
        f"`touch {sentinel}`",
        f";touch {sentinel};",
        f"|touch {sentinel}",
        f"=cmd|' /C touch {sentinel}'!A0",
        f"{{{{ self.__init__.__globals__.__builtins__.open('{sentinel}', 'w') }}}}",
        f"!!python/object/apply:os.system ['touch {sentinel}']",
        "{0.__class__.__init__.__globals__}",
        "%s%s%s%n",
    ]


ODD_TEXTS = (
    "", " ", "\t", "../../escaped", "/etc/passwd", "a/b", "con", "a" * 300, "x" * 200_000, "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07", "[bold]", "[/bold]", "[/]", "[link=file:///]", "\\", "\x00", "\ud800", "\u202eabc", "é" * 50,
    "NaN", "inf", "-1", "1e400", "None", "true", "{}", "[]", "<script>", "' OR 1=1 --", "a\nb", "a\r\nb", '"', "'",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**63 - 1, 2**63, 10**30,
    10**400, 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, [], {}, [[]], [{}], {"": ""}, [None], ["a", "a"], [0, 0],
    [1e308, 1e308], [-1, 2], list(range(1000)), {"a": {"b": {"c": [1]}}},
)  # fmt: skip
KNOWN_WORDS = (
    "lightgbm", "xgboost", "catboost", "linear", "neighbors", "mlp", "kernel", "extra_trees", "native", "one_hot",
    "target", "generated", "numeric", "text", "category", "datetime", "id", "constant", "binary", "regression", "rmse",
)  # fmt: skip
ODD_INTS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF,
    2**64 - 1,
)
ODD_NUMBERS = ("-1", "0", "1", "2147483647", "-2147483648", "99999999999999999999", "nan", "inf", "-inf", "1e400", "",
               "0x10", "1e5", "-0", "x", "1 2", "4294967296")  # fmt: skip


# Bytes, whatever they are


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Flip, cut, double, zero, insert or exchange some bytes."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = chance.choice(BYTE_DAMAGE)(chance, data)
    return data


def _flipped(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        if out:
            out[chance.randrange(len(out))] ^= chance.randrange(1, 256)
    return bytes(out)


def _cut(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return chance.choice((data[:start], data[end:], data[:start] + data[end:]))


def _doubled(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 1, 2, 50)) + data[end:]


def _zeroed(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + chance.choice((b"\0", b"\xff")) * (end - start) + data[end:]


def _inserted(chance: random.Random, data: bytes) -> bytes:
    start, _ = _span(chance, data)
    return data[:start] + chance.randbytes(chance.choice((1, 2, 4, 100))) + data[start:]


def _integers(chance: random.Random, data: bytes) -> bytes:
    """Write an odd integer over some bytes, in either order: sizes and offsets of binary formats."""
    out = bytearray(data)
    code = chance.choice(("<H", "<I", "<Q", ">H", ">I", ">Q"))
    size = struct.calcsize(code)
    if len(out) > size:
        at = chance.randrange(len(out) - size)
        out[at : at + size] = struct.pack(code, chance.choice(ODD_INTS) % 256**size)
    return bytes(out)


def _span(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 2, 8, 64, 1024, len(data))))


BYTE_DAMAGE = (_flipped, _flipped, _cut, _doubled, _zeroed, _inserted, _integers, _integers)


# Models


def read_entries(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(entries: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def with_right_digest(entries: Entries, manifest: Any) -> Entries:
    """Return entries with this manifest and its digest."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode("utf-8", "surrogatepass")
    return {**entries, MANIFEST: text, DIGEST: hashlib.sha256(text).hexdigest().encode()}


def replaced(entries: Entries, old: str, content: bytes) -> Entries:
    """Return entries with another content for a blob; every digest is put right, that of a file beside it too."""
    manifest = entries[MANIFEST].decode("utf-8", "surrogatepass")
    out = dict(entries)
    changes = [(old, content)]
    for fold in _folds(json.loads(manifest)):
        for files in (fold["encoder"], fold["model"]):
            beside = [files.get(f"{name}.sha256") for name, digest in files.items() if digest == old]
            changes += [(d, hashlib.sha256(content).hexdigest().encode() + b"\n") for d in beside if d]
    for digest, data in dict(changes).items():
        new = hashlib.sha256(data).hexdigest()
        out.pop(BLOBS + digest, None)
        out[BLOBS + new] = data
        manifest = manifest.replace(digest, new)
    return with_right_digest(out, manifest.encode("utf-8", "surrogatepass"))


def mutated_model(chance: random.Random, bases: Sequence[Path], sentinel: Path, *, repaired: bool) -> tuple[str, bytes]:
    """Return (what was done, the bytes of a model file)."""
    path = chance.choice(bases)
    entries = read_entries(path)
    if not repaired:
        name, make = chance.choice(UNREPAIRED)
        return name, make(chance, path.read_bytes(), entries)
    if chance.random() < 0.4:
        manifest = json.loads(entries[MANIFEST])
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            manifest = changed_json(chance, manifest, sentinel)
        return "manifest", write_entries(with_right_digest(entries, manifest))
    digest, file = chance.choice(_files(json.loads(entries[MANIFEST])))
    what, content = _mutated_file(chance, file, entries[BLOBS + digest], sentinel)
    return what, write_entries(replaced(entries, digest, content))


def _folds(manifest: Any) -> list[Any]:
    return [fold for member in manifest["members"] for fold in member["folds"]]


def _files(manifest: Any) -> list[tuple[str, str]]:
    """Return (digest, name) of the files of members and of what is attached, without the digests beside some."""
    found = [
        (digest, name)
        for fold in _folds(manifest)
        for part in ("encoder", "model")
        for name, digest in fold[part].items()
        if not name.endswith(".sha256")
    ]
    return found + [(manifest[key]["blob"], key) for key in ("rows", "reference") if manifest.get(key)]


def _mutated_file(chance: random.Random, name: str, content: bytes, sentinel: Path) -> tuple[str, bytes]:
    suffix = Path(name).suffix
    if chance.random() < 0.25:
        return f"bytes of {suffix or name}", damaged(chance, content)
    if chance.random() < 0.03:
        return f"pickle as {suffix or name}", pickle.dumps(Trap(sentinel))
    if suffix == ".npz":
        return "npz", mutated_npz(chance, content, sentinel)
    if suffix == ".json":
        return "json", json.dumps(changed_json(chance, json.loads(content), sentinel)).encode("utf-8", "surrogatepass")
    if content.startswith(b"tree\n"):
        return "lightgbm", _mutated_text(chance, content)
    if content.startswith(b"{"):
        return "xgboost", _mutated_binary(chance, content)
    if content.startswith(b"CBM1"):
        return "catboost", _mutated_binary(chance, content)
    return f"bytes of {suffix or name}", damaged(chance, content)


def _mutated_text(chance: random.Random, content: bytes) -> bytes:
    """Change numbers and lines of a text format; sizes of trees are put right every other time."""
    lines = content.decode().split("\n")
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(lines))
        action = chance.randrange(8)
        if action == 0:
            del lines[at]
        elif action == 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif action == 2:
            lines[at] = chance.choice(ODD_NUMBERS)
        elif "=" in lines[at]:
            key, _, values = lines[at].partition("=")
            numbers = values.split(" ")
            if action == 3:
                numbers = numbers * chance.choice((0, 2, 100))
            for _ in range(chance.choice((1, 1, 4))):
                if numbers:
                    numbers[chance.randrange(len(numbers))] = chance.choice(ODD_NUMBERS)
            lines[at] = f"{key}={' '.join(numbers)}"
    text = "\n".join(lines)
    if chance.random() < 0.7:
        trees = re.split(r"(?=^Tree=\d+$)", text.partition("end of trees")[0], flags=re.MULTILINE)[1:]
        sizes = " ".join(str(len(tree)) for tree in trees)
        text = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)
    return text.encode()


def _mutated_binary(chance: random.Random, content: bytes) -> bytes:
    """Change numbers of a binary format without moving what follows."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        content = chance.choice((_integers, _flipped))(chance, content)
    return content


def changed_json(chance: random.Random, data: Any, sentinel: Path) -> Any:
    """Change one value, key or branch somewhere in JSON values; the input is left as it is."""
    box = [json.loads(json.dumps(data))]
    holder: Any = box
    key: Any = 0
    for _ in range(chance.randrange(1, 9)):
        value = holder[key]
        if not isinstance(value, dict | list) or not value:
            break
        holder, key = value, chance.choice(sorted(value)) if isinstance(value, dict) else chance.randrange(len(value))
    value, texts = holder[key], [*ODD_TEXTS, *code_texts(sentinel)]
    action = chance.randrange(10)
    if action == 0 and isinstance(holder, dict):
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[chance.choice(texts)] = value
    elif action == 2 and isinstance(value, list) and value:
        holder[key] = value * chance.choice((0, 2, 50))
    elif action == 3 and isinstance(value, str):
        holder[key] = chance.choice(KNOWN_WORDS)
    elif action == 4 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = chance.choice((-value, value + 1, value * 1000, value - 1))
    else:
        holder[key] = chance.choice(texts) if action <= 6 else chance.choice(ODD_VALUES)
    return box[0]


# The zip around a model


def _zip_names(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    name = chance.choice(("../up", "../../../up", "/abs", "//abs", "a/../../b", "..", ".", "C:\\x", "a\\..\\b", "x\0y",
                          "blobs/../../up", "manifest.json/x", "dir/", "x" * 5000, "\u202e"))  # fmt: skip
    entries = dict(entries)
    if chance.random() < 0.5:
        entries[name] = b"x"
    else:
        entries[name] = entries.pop(chance.choice(list(entries)))
    return write_entries(entries)


def _zip_twice(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = chance.choice(list(entries))
        archive.writestr(name, chance.choice((entries[name], b"", b"{}", chance.randbytes(100))))
    return out.getvalue()


def _zip_link(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    """Mark entries as links, devices or folders, as unpackers of other programs heed."""
    out = io.BytesIO()
    chosen = chance.choice(list(entries))
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            if name == chosen:
                info.external_attr = chance.choice((0o120777, 0o020666, 0o040777, 0o104755)) << 16
                archive.writestr(info, chance.choice((b"../../up", b"/etc/passwd", content)))
            else:
                archive.writestr(info, content)
    return out.getvalue()


def _zip_bomb(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    n = chance.choice((1, 70, 200)) << 20
    name = chance.choice(["zeros", *entries])
    return write_entries({**entries, name: bytes(n)})


def _zip_overlap(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    """Let every entry of the directory point at the same bytes."""
    out = bytearray(data)
    places = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    target = out[places[-1] + 42 : places[-1] + 46]
    for place in places:
        if chance.random() < 0.5:
            out[place + 42 : place + 46] = target
    return bytes(out)


def _zip_fields(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    """Write odd numbers into a header: version, flags, method, sizes, lengths, offsets."""
    out = bytearray(data)
    mark = chance.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    places = [match.start() for match in re.finditer(re.escape(mark), data)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice(places) + chance.randrange(4, 46)
        code = chance.choice(("<H", "<I"))
        size = struct.calcsize(code)
        if at + size <= len(out):
            out[at : at + size] = struct.pack(code, chance.choice(ODD_INTS) % 256**size)
    return bytes(out)


def _zip_around(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    extra = chance.choice((b"#!/bin/sh\n", chance.randbytes(1000), b"PK\x03\x04", data))
    return chance.choice((extra + data, data + extra))


def _entry_damaged(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    """Damage an entry's content; the zip itself is whole."""
    name = chance.choice(list(entries))
    method = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for other, content in entries.items():
            if other == name:
                archive.writestr(other, damaged(chance, content), method)
            else:
                archive.writestr(other, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _entry_gone(chance: random.Random, data: bytes, entries: Entries) -> bytes:
    gone = chance.choice(list(entries))
    return write_entries({name: content for name, content in entries.items() if name != gone})


UNREPAIRED: tuple[tuple[str, Callable[[random.Random, bytes, Entries], bytes]], ...] = (
    ("bytes of the file", lambda chance, data, entries: damaged(chance, data)),
    ("bytes of the file", lambda chance, data, entries: damaged(chance, data)),
    ("entry names", _zip_names),
    ("entry twice", _zip_twice),
    ("links", _zip_link),
    ("bomb", _zip_bomb),
    ("overlapping entries", _zip_overlap),
    ("zip headers", _zip_fields),
    ("zip headers", _zip_fields),
    ("around the zip", _zip_around),
    ("entry damaged", _entry_damaged),
    ("entry gone", _entry_gone),
)


# Arrays


def mutated_npz(chance: random.Random, content: bytes, sentinel: Path) -> bytes:
    """Change an array, its header, or the archive around the arrays."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if not members:
        return damaged(chance, content)
    name = chance.choice(list(members))
    action = chance.randrange(12)
    method = zipfile.ZIP_STORED
    if action == 0:
        members[name] = npy_of(np.array([Trap(sentinel)], dtype=object))
    elif action == 1:
        members[name] = _header(chance, members[name], sentinel)
    elif action == 2:
        members.pop(name)
    elif action == 3:
        members[chance.choice(("extra.npy", "../up.npy", "allow_pickle.npy", name + "x"))] = members[name]
    elif action == 4:
        members[name] = damaged(chance, members[name])
    elif action == 5:
        method = zipfile.ZIP_DEFLATED
        members[name] = npy_of(np.zeros(chance.choice((10, 10**6, 2 * 10**7))))
    elif action == 6:
        other = chance.choice(list(members))
        members[name], members[other] = members[other], members[name]
    else:
        try:
            array = np.load(io.BytesIO(members[name]), allow_pickle=False)
        except (ValueError, EOFError):
            return damaged(chance, content)
        members[name] = npy_of(mutated_array(chance, array))
    return write_entries(members, method)


def npy_of(array: Any) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), allow_pickle=True)
    return out.getvalue()


def mutated_array(chance: random.Random, array: Any) -> Any:
    """Return an array of other values, type or shape; or the same with a few values that cannot be."""
    action = chance.randrange(9)
    if action == 0:
        return array.astype(chance.choice(("f4", "f8", "i4", "i8", "u1", "?", "U3", "f2", ">f4", ">i4")))
    if action == 1:
        return array.reshape(chance.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1)))) if array.size else array[None]
    if action == 2:
        return np.asfortranarray(array) if array.ndim == 2 else array[..., None]
    if action == 3 and array.ndim:
        return chance.choice((array[:0], array[:1], array[:-1], np.concatenate([array, array])))
    if action == 4 and array.ndim:
        return array[::-1]
    array = array.copy()
    flat = array.reshape(-1)
    for _ in range(chance.choice((1, 1, 4, max(1, flat.size)))):
        if flat.size:
            value = chance.choice(
                (0, 1, -1, 2, 3, 127, 10**6, 2**31 - 1, -(2**31), np.nan, np.inf, -np.inf, 1e38, 1e300)
            )
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                flat[chance.randrange(flat.size)] = np.array(value).astype(array.dtype)
    return array


def _header(chance: random.Random, npy: bytes, sentinel: Path) -> bytes:
    """Write another header in front of an array's bytes: huge or negative shapes, objects, code, other versions."""
    shape = chance.choice(("(1000000000000,)", "(-1,)", "(0,)", "(2**62, 4)", "(99999999, 99999999)", "(1.5,)", "()",
                           "'x'", "((1,),)", "(True,)", "(10**9,)"))  # fmt: skip
    kind = chance.choice(("'<f8'", "'<f4'", "'<i4'", "'|O'", "'|V2000000000'", "'<U500000000'", "[('a', '<f8')]", "'x'",
                          "''", "'<M8[s]'", "[]", "None", repr(code_texts(sentinel)[0]),
                          code_texts(sentinel)[0]))  # fmt: skip
    order = chance.choice(("False", "True", "2", "None"))
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    if chance.random() < 0.1:
        text = b"(" * 20_000 + text
    version = chance.choice(((1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    length = struct.pack("<H", len(text) % 65536) if version[0] == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + npy[-100:]


# Tables


def odd_cells(sentinel: Path) -> list[str]:
    return [
        *ODD_TEXTS, *ODD_NUMBERS, *code_texts(sentinel), "1,5", "1.234,5", "1 000", "$5", "50%", "１２", "٣", "0001",
        "1e308", "2026-02-30", "0000-00-00", "9999-12-31", "-5000-01-01", "31.12.2026", "12/31/26",
        "2026-01-01T25:61:61Z", "2026-11-25 10:00:00+99:99", "99999999999999", "TRUE",
        "yes", "N/A", "#REF!", '""', '"', '"a""b"', '"a\nb"',
        "😀", "\ufeff", "\u200b", "a\tb", "a;b", "a|b", "'a'", "http://x/" + "y" * 5000,
    ]  # fmt: skip


def mutated_table(chance: random.Random, bases: Sequence[bytes], sentinel: Path) -> tuple[str, bytes]:
    """Return (what was done, the bytes of a table)."""
    name, make = chance.choice(TABLES)
    data = make(chance, chance.choice(bases), sentinel)
    if chance.random() < 0.1:
        data = damaged(chance, data)
    return name, data


def _cells(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    rows = [line.split(",") for line in data.decode().splitlines()]
    cells = odd_cells(sentinel)
    column = chance.randrange(len(rows[0]))
    everywhere = chance.random() < 0.3
    for row in rows[1:] if everywhere else chance.choices(rows, k=chance.choice((1, 1, 3, 20))):
        place = column if everywhere else chance.randrange(len(row))
        row[place] = chance.choice(cells)
    return _joined(rows)


def _headers(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    rows = [line.split(",") for line in data.decode().splitlines()]
    action = chance.randrange(6)
    if action == 0:
        del rows[0]
    elif action == 1:
        rows[0] = [rows[0][0]] * len(rows[0])
    elif action == 2:
        rows[0] = [""] * len(rows[0])
    elif action == 3:
        rows = rows[:1]
    elif action == 4:
        rows = [row * chance.choice((2, 300)) for row in rows[:20]]
    else:
        rows[0][chance.randrange(len(rows[0]))] = chance.choice(odd_cells(sentinel))
    return _joined(rows)


def _ragged(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(chance.choice((1, 1, 5))):
        row = chance.choice(rows)
        chance.choice((row.clear, row.reverse, lambda row=row: row.append("x"), lambda row=row: row and row.pop()))()
    return _joined(rows)


def _joined(rows: Sequence[Sequence[str]]) -> bytes:
    return ("\n".join(",".join(row) for row in rows) + "\n").encode("utf-8", "surrogatepass")


def _separators(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    separator = chance.choice((b";", b"\t", b"|", b" ", b":", b"\x1f", b"a", b'"', b"\n"))
    return data.replace(b",", separator) if chance.random() < 0.7 else data.replace(b",", separator, 37)


def _line_ends(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    end = chance.choice((b"\r", b"\r\n", b"\n\r", b"\n\n", b"\x0b", b"\x85", b"\0", b"\n,", b""))
    return data.replace(b"\n", end) if chance.random() < 0.5 else data.replace(b"\n", end, 9)


def _encodings(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    text = data.decode()
    name = chance.choice(
        ("utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252", "utf-7", "utf-8-sig", "cp037", "shift-jis")
    )
    out = text.encode(name, "replace")
    return out[: chance.randrange(1, len(out))] if chance.random() < 0.3 else out


def _packed(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    action = chance.randrange(9)
    if action == 0:
        out = gzip.compress(data)
    elif action == 1:
        out = bz2.compress(data)
    elif action == 2:
        out = lzma.compress(data, preset=0)
    elif action == 3:
        out = pa.Codec("zstd").compress(data, asbytes=True)
    elif action == 4:
        names = chance.choice(
            (["t.csv"], ["../../t.csv"], ["/t.csv"], ["a", "b"], [], ["__MACOSX/x", "t.csv"], ["xl/x"])
        )
        out = write_entries(dict.fromkeys(names, data))
    elif action == 5:
        out = gzip.compress(gzip.compress(data))
    elif action == 6:
        out = gzip.compress(data) + gzip.compress(b"1,2\n") + chance.randbytes(10)
    elif action == 7:
        out = write_entries({"t.csv": data}, chance.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED)))
    else:
        out = gzip.compress(b"a,b\n" + b"0,0\n" * (30 << 18), 1)  # 30 MB of one row
    return damaged(chance, out) if chance.random() < 0.5 else out


def _parquet(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    table = pyarrow.csv.read_csv(io.BytesIO(data))
    for _ in range(chance.randrange(3)):
        at = chance.randrange(table.num_columns)
        odd = chance.choice((
            pa.array([[1]] * table.num_rows), pa.array([b"\xff"] * table.num_rows), pa.nulls(table.num_rows),
            pa.array([{"a": 1}] * table.num_rows), pa.array([2**62] * table.num_rows, pa.timestamp("us")),
            pa.array([-(2**62)] * table.num_rows, pa.time64("ns")),
            pa.array(["a"] * table.num_rows).dictionary_encode(),
            pa.array([2**31 - 1] * table.num_rows, pa.date32()), pa.array([1] * table.num_rows, pa.duration("s")),
            pa.array([True] * table.num_rows), pa.array([2**64 - 1] * table.num_rows, pa.uint64()),
            pa.array([10**30] * table.num_rows, pa.decimal128(38)), pa.array([1.0] * table.num_rows, pa.float16()),
            pa.array(["\x1b[31m"] * table.num_rows),
        ))  # fmt: skip
        table = table.set_column(at, table.column_names[at], odd)
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out)
    return damaged(chance, out.getvalue()) if chance.random() < 0.6 else out.getvalue()


def _quotes(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 2, 3, 40))):
        out.insert(chance.randrange(len(out)), ord('"'))
    return bytes(out)


def _kinds(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    """Fill a column with one kind of odd thing, so that it is taken for something else than before."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    at = chance.randrange(len(rows[0]))
    make = chance.choice((
        str, lambda i: "", lambda i: "1e308", lambda i: f"{i}e{i}", lambda i: "x" * (i % 2000),
        lambda i: f"{i % 13:02}/{i % 32:02}/{i:04}", lambda i: f"{i}-01-01",
        lambda i: chance.choice(("inf", "-inf", "nan")),
        lambda i: chance.choice("01"), lambda i: f"id-{i}", lambda i: chr(33 + i % 20_000), lambda i: str(2**i),
        lambda i: f"{i},5" if i % 2 else f'"{i},5"', lambda i: f"{i}%", lambda i: f"{i} {i} {i} " * (i % 30),
        lambda i: f"{i // 60 % 99}:{i % 99}:{i % 99}", lambda i: "é\u0301" * (i % 9), lambda i: "-" if i % 2 else "+",
    ))  # fmt: skip
    for i, row in enumerate(rows[1:]):
        row[at] = make(i)
    return _joined(rows)


def _noise(chance: random.Random, data: bytes, sentinel: Path) -> bytes:
    if chance.random() < 0.5:
        return chance.randbytes(chance.randrange(5000))
    alphabet = chance.choice((b'",\n', b"ab,\n", b"0123456789.,-\n", bytes(range(256)), b' \t\r\n,;"'))
    return bytes(chance.choices(alphabet, k=chance.randrange(5000)))


TABLES: tuple[tuple[str, Callable[[random.Random, bytes, Path], bytes]], ...] = (
    ("bytes", lambda chance, data, sentinel: damaged(chance, data)),
    ("bytes", lambda chance, data, sentinel: damaged(chance, data)),
    ("cells", _cells),
    ("cells", _cells),
    ("header", _headers),
    ("ragged", _ragged),
    ("separators", _separators),
    ("line ends", _line_ends),
    ("encodings", _encodings),
    ("packed", _packed),
    ("parquet", _parquet),
    ("quotes", _quotes),
    ("kinds", _kinds),
    ("kinds", _kinds),
    ("noise", _noise),
)


def strategy_tables(n: int, seed: int) -> list[bytes]:
    """Draw tables with hypothesis, which looks for the small and odd ones."""
    import hypothesis
    from hypothesis import strategies as st

    cell = st.one_of(
        st.text(max_size=8),
        st.integers().map(str),
        st.floats().map(str),
        st.dates().map(str),
        st.datetimes().map(str),
        st.sampled_from(["", "NA", "?", "-", "TRUE", "x", "0", "1"]),
    )
    rows = st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), max_size=30)
    )
    quoted = st.booleans()
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(rows, quoted)
    def collect(table: list[list[str]], in_quotes: bool) -> None:
        lines = [",".join('"' + c.replace('"', '""') + '"' if in_quotes else c for c in row) for row in table]
        found.append("\n".join(lines).encode("utf-8", "surrogatepass"))

    collect()
    return found
