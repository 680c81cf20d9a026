"""Reading what anybody may have written: one line for every fault, and memory bounded by the file."""

import io
import os
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.files import reading
from common.files.npz import load_npz, load_pickle, save_npz
from common.multiview.labels import read_labels

DOUBLING = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(20))


def refusal(read, *words) -> str:
    with pytest.raises(InputError) as caught:
        read(*words)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("data", [
    b"\x80\x02]r\x00\x00\x00\x7f.",  # a memo of 2^31 places
    b"(lp2000000000\n.",
    b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x.",  # a bytearray of 8 GB
    b"\x80\x02X\xff\xff\xff\x7fabc.",
    b"\x80\x02]", b"", b"\xff.",
])  # fmt: skip
def test_pickles_that_claim_more_than_is_there(tmp_path, data):
    (tmp_path / "a.pkl").write_bytes(data)
    assert "a.pkl is truncated, damaged or no pickle" in refusal(load_pickle, tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_walked_to_their_end(protocol):
    array = np.arange(300.0)
    for value in (array, {"a": [1, -5, 2**70, 1.5, None, True, "text" * 100, b"bytes" * 100, (1, 2, 3, 4), {3}]}):
        data = pickle.dumps([value] * 3 + [str(i) for i in range(400)], protocol)
        assert reading.check_pickle(data + b"more")[0] == len(data)


def test_an_archive_that_unpacks_to_more(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as file:
            for _ in range(560):
                file.write(bytes(1 << 20))
    assert "claims 587,202,560 bytes, in a file of" in refusal(load_npz, tmp_path / "a.npz")


def test_aliases_that_stand_for_more(tmp_path):
    value = ["x" * 1000]
    for _ in range(40):
        value = [value, value]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    assert "repeats its parts" in refusal(load_pickle, tmp_path / "a.pkl")
    once = np.ones(1000)
    reading.check_content([once] * 50, 8000, "fine")
    refusal(reading.check_content, [[once] * 300] * 300, 8000, "file")
    refusal(reading.check_content, np.broadcast_to(np.float64(1), (1 << 15, 1 << 14)), 300, "file")
    refusal(reading.check_content, 10**5000, 300, "file")


@pytest.mark.parametrize("text, words", [
    ("a: 2020-99-99", "malformed YAML"), ("a: !!bool maybe", "malformed YAML"), ("a: 0b_", "malformed YAML"),
    ("a: !!python/object:os.system x", "malformed YAML in line 1"), ("a: " + "9" * 5000, "malformed YAML"),
    ("a: &a [*a]", "repeat too much"), (DOUBLING, "repeat too much"), ("[" * 3000, "malformed YAML"),
    ("x" * 300_000, "more than 262,144 bytes"),
])  # fmt: skip
def test_yaml(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    assert words in refusal(reading.load_yaml, tmp_path / "a.yaml")


def test_yaml_with_honest_aliases(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n")
    assert reading.load_yaml(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 2}


def test_arrays_that_claim_more(tmp_path):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(80))
    assert "shorter than the header says" in refusal(reading.load_array, tmp_path / "a.npy")
    with h5py.File(tmp_path / "labels.h5", "w") as labels:
        for key in ("subj", "seq", "frame", "extrinsic_rot"):
            labels[key] = np.zeros(4, np.int32)
        labels.create_dataset("cam", (10**12,), "i8", chunks=(1000,))
    assert "cam claims 8,000,000,000,000 bytes" in refusal(read_labels, tmp_path)


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.npz")
    assert "is a fifo or a device" in refusal(load_npz, tmp_path / "fifo.npz")
    with pytest.raises(InputError, match="fifo or a device"):
        reading.read_bytes("/dev/zero")


def test_names_in_errors_do_not_reach_the_terminal(tmp_path):
    save_npz(tmp_path / "a.npz", **{"\x1b[2J\u202ename": np.ones(1)})
    assert r"\x1b[2J\u202ename" in refusal(load_npz, tmp_path / "a.npz", ("wanted",))
    assert str(InputError("two\nlines \udcff")) == r"two lines \udcff"


def test_one_line_for_whatever_a_reader_raises():
    for error in (
        StopIteration(),
        KeyError("a"),
        RecursionError("deep"),
        MemoryError(),
        OSError(5, "gone"),
        OSError("odd"),
    ):
        with pytest.raises(InputError, match="^file"), reading.reading("file"):
            raise error


def test_pictures_take_no_more_memory_than_their_bytes_explain(tmp_path):
    """A PNG of a few bytes that claims 9,000 x 9,000 pixels; Pillow's own limit lies above that."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(8)), b"IEND")
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InputError, match="a picture of 9000 x 9000 pixels claims 648,000,000 bytes, in a file of"):
        reading.open_image(tmp_path / "bomb.png")
    Image.new("RGB", (640, 480)).save(tmp_path / "real.png")
    assert reading.open_image(tmp_path / "real.png").size == (640, 480)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="fifo"):
        reading.open_image(tmp_path / "pipe.png")
