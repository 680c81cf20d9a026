"""common.files.npz: what it reads is what NumPy wrote; a file that holds code is refused before anything of it runs."""

import errno
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.files.npz import load_npz, save_npz

TREE = {
    "S1": {
        "Walking": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "views": [np.zeros((2, 1), np.float64), np.ones(3, np.int16), np.empty((0, 5), np.float32)],
        "pair": (1, (True, None), 2.5, 3 + 4j),
    },
    5: {"text": "é", "bytes": b"\x00\xff", "big": 2**70, "scalar": np.float32(1.5), "flag": np.bool_(True)},
    "names": np.array(["a", "bcd"]),
    "swapped": np.arange(3, dtype=">i4"),
    "mask": np.array([True, False]),
}


def write_member(path, data: bytes, shape=(), key="positions_3d"):
    """An .npz whose only member is an object array with the given pickle."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|O", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{key}.npy", member.getvalue() + data)
    return path


def same(a, b) -> bool:
    """Equal in value, type and dtype (b in the machine's byte order), all the way down."""
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        if not isinstance(b, np.ndarray) or a.dtype.newbyteorder("=") != b.dtype or a.shape != b.shape:
            return False
        return all(map(same, a.flat, b.flat)) if a.dtype == np.dtype(object) else np.array_equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("compressed", [False, True])
def test_round_trip(tmp_path, compressed):
    plain = np.arange(12.0).reshape(3, 4)
    save_npz(tmp_path / "a.npz", compressed, tree=TREE, plain=plain, text=np.array("layout"))
    found = load_npz(tmp_path / "a.npz", required=("tree", "plain"))
    assert list(found) == ["tree", "plain", "text"]
    assert same(TREE, found["tree"]) and same(plain, found["plain"]) and str(found["text"]) == "layout"
    reference = np.load(tmp_path / "a.npz", allow_pickle=True)["tree"].item()  # as VideoPose3D reads it
    assert same(reference, found["tree"])


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol(tmp_path, protocol):
    array = np.empty((), dtype=object)
    array[()] = TREE
    found = load_npz(write_member(tmp_path / "a.npz", pickle.dumps(array, protocol=protocol)))
    assert same(TREE, found["positions_3d"])


def test_object_arrays_of_any_shape(tmp_path):
    nested = np.empty((2, 2), dtype=object)
    nested[0, 0], nested[1, 1] = {"x": np.ones(3)}, [np.arange(2), "b"]
    nested[0, 1] = np.array([{"inner": np.zeros(1)}, None], dtype=object)
    for array in (nested, np.asfortranarray(nested), nested.T):
        np.savez(tmp_path / "a.npz", array=array)
        assert same(array, load_npz(tmp_path / "a.npz")["array"])


def test_one_array_in_many_places(tmp_path):
    array, views = np.arange(3.0), (np.ones(2), "x")
    tree = {"a": array, "b": [array, array], "c": views, "d": [views]}
    save_npz(tmp_path / "a.npz", tree=tree)
    found = load_npz(tmp_path / "a.npz")["tree"]
    assert same(tree, found) and found["a"] is found["b"][0]


# What Python 2 with NumPy 1 wrote for a 0-d object array of {"S1": {"Walking": float32 (2, 3)}, "scalar": float64}:
# protocol 2, byte strings for names and for array contents.
PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87Rq\x02(K\x01)cnumpy\ndtype\n"
    b"q\x03U\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]q\x04}q\x05(U\x02S1}U\x07Walking"
    b"h\x00h\x01K\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86h\x03U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff"
    b"\xff\xffK\x00tb\x89U\x18"
    + np.arange(6, dtype="<f4").tobytes()
    + b"tbsU\x06scalarcnumpy.core.multiarray\nscalar\n"
    b"h\x03U\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x08"
    + np.float64(2.5).tobytes()
    + b"\x86Ruatb."
)


def test_python_2_pickles(tmp_path):
    found = load_npz(write_member(tmp_path / "old.npz", PYTHON_2))["positions_3d"]
    assert same(found, {"S1": {"Walking": np.arange(6, dtype=np.float32).reshape(2, 3)}, "scalar": np.float64(2.5)})
    reference = pickle.loads(PYTHON_2, encoding="latin1").item()
    assert same(found, reference)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_is_refused_by_name_and_does_not_run(tmp_path, protocol):
    marker = tmp_path / "it ran"
    attacks = {
        "builtins.eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "builtins.exec": Call(exec, f"open({str(marker)!r}, 'w')"),
        f"{os.name}.system": Call(os.system, f"touch '{marker}'"),
        "builtins.getattr": Call(getattr, "text", "format"),
        "collections.OrderedDict": OrderedDict(a=1),
        "numpy.load": Call(np.load, str(marker)),
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    for name, attack in attacks.items():
        array = np.empty((), dtype=object)
        array[()] = {"S1": {"Walking": [np.zeros(2), attack]}}
        if name == "numpy.load":  # NumPy moves its functions between private modules
            name = "numpy"
        path = write_member(tmp_path / "bad.npz", pickle.dumps(array, protocol=protocol))
        with pytest.raises(InputError) as caught:
            load_npz(path)
        message = str(caught.value)
        assert "\n" not in message and "which is not data: refused" in message
        assert f"object array in {path} key positions_3d holds {name}" in message
        assert not marker.exists()


HOSTILE = {
    "builder with state": b"cnumpy\ndtype\n}(U\x01ai\x01b.",
    "builder as a class": b"cnumpy\nndarray\n)\x81.",
    "builder as instance": b"(cnumpy\nndarray\no.",
    "extension code": b"\x82\x01.",
    "persistent id": b"Pname\n.",
    "structured dtype": b"cnumpy\ndtype\n(U\x02V8K\x00K\x01tR.",
    "forged fields": b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<N(U\x01at}K\x04K\x01K\x00tb.",
    "wrong size": b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01(K\x05tcnumpy\ndtype\n(U\x02f8tR\x89U\x02abtb.",
    "array without state": b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR.",
    "codec that runs code": b"c_codecs\nencode\n(U\x01aU\x04zlibtR.",
    "not an array": b"}.",
    "unhashable": b"}(]K\x01u.",
    "array as key": b"}(cnumpy.core.multiarray\n_reconstruct\n(NNNtRK\x01u.",
    "cut off": PYTHON_2[:-40],
    "nothing": b"",
    "noise": bytes(range(255)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_end_in_one_line(tmp_path, name):
    before = np.dtype("f4"), np.dtype("f4").fields, np.dtype("f4").byteorder
    with pytest.raises(InputError) as caught:
        load_npz(write_member(tmp_path / "bad.npz", HOSTILE[name]))
    assert "\n" not in str(caught.value) and "bad.npz" in str(caught.value)
    assert (np.dtype("f4"), np.dtype("f4").fields, np.dtype("f4").byteorder) == before


def test_bottomless_nesting_is_refused(tmp_path):
    array = np.empty((), dtype=object)
    array[()] = []
    for _ in range(200):
        array[()] = [array[()]]
    with pytest.raises(InputError, match="nested deeper"):
        load_npz(write_member(tmp_path / "deep.npz", pickle.dumps(array)))


def test_a_cycle_is_refused(tmp_path):
    array = np.empty((), dtype=object)
    array[()] = cycle = {"array": np.ones(1)}
    cycle["self"] = cycle
    with pytest.raises(InputError, match="repeats its parts"):
        load_npz(write_member(tmp_path / "cycle.npz", pickle.dumps(array)))


def test_bad_files(tmp_path):
    save_npz(tmp_path / "good.npz", compressed=True, positions_2d=TREE, table=np.arange(5000.0))
    whole = (tmp_path / "good.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    cases = {
        "empty": (b"", "is empty"),
        "text": (b"hello world", "not an .npz file"),
        "cut": (whole[: len(whole) // 2], "truncated or damaged"),
        "cut at the end": (whole[:-10], "truncated or damaged"),
        "flipped": (bytes(damaged), "truncated or damaged"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            load_npz(tmp_path / f"{name}.npz")
        assert f"{name}.npz" in str(caught.value) and "\n" not in str(caught.value)
    for path, words in ((tmp_path / "missing.npz", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=words):
            load_npz(path)
    with pytest.raises(InputError, match="no array positions_3d; it has: positions_2d, table"):
        load_npz(tmp_path / "good.npz", required=("positions_3d", "positions_2d"))


def test_header_that_promises_too_much(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(80))
    with pytest.raises(InputError, match="shorter than the header says"):
        load_npz(tmp_path / "huge.npz")


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_npz(path, x=np.arange(3))
    before = path.read_bytes()

    class Unsaveable:
        def __reduce__(self):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        save_npz(path, x=np.arange(5), y={"deep": Unsaveable()})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_npz(path, x=np.arange(4))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_saving_where_it_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (Path("/proc/no such folder/a.npz"), tmp_path / "file" / "a.npz"):
        with pytest.raises(InputError, match="cannot write"):
            save_npz(path, x=np.arange(3))


def test_same_content_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_npz(tmp_path / name, compressed=True, tree=TREE)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
