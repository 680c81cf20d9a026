"""BVH: positions as a plain loop over frames finds them, what is written comes back, broken files are named."""

import numpy as np
import pytest

from common.errors import InputError
from common.mocap.bvh import read_bvh

TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 1.0 2.0 3.0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Bip01 L Thigh {
    OFFSET 0.5 -0.25 0.125
    CHANNELS 3 Yrotation Zrotation Xrotation
    JOINT Knee
    {
      OFFSET 0 -4 0.5
      CHANNELS 1 Xrotation
      End Site
      {
        OFFSET 0 -3.5 0
      }
    }
  }
  JOINT Spine
  {
    OFFSET 0 2 0
    CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0.5 1 0
    }
  }
}
MOTION
Frames: %d
Frame Time: 0.008333
"""
JOINTS = ("Hips", "Bip01 L Thigh", "Knee", "Knee end", "Spine", "Spine end")


def text_of(values):
    return TEXT % len(values) + "\n".join(" ".join(f"{v:.6f}" for v in row) for row in values) + "\n"


def write(tmp_path, text):
    path = tmp_path / "clip.bvh"
    path.write_text(text)
    return path


def rotation(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrices = {
        "X": ((1, 0, 0), (0, c, -s), (0, s, c)),
        "Y": ((c, 0, s), (0, 1, 0), (-s, 0, c)),
        "Z": ((c, -s, 0), (s, c, 0), (0, 0, 1)),
    }
    return np.array(matrices[axis])


def plain_loop(row, spine_is_absolute):
    """The joints of one frame, written out."""
    hips = row[:3]
    at_hips = rotation("Z", row[3]) @ rotation("X", row[4]) @ rotation("Y", row[5])
    thigh = hips + at_hips @ (0.5, -0.25, 0.125)
    at_thigh = at_hips @ rotation("Y", row[6]) @ rotation("Z", row[7]) @ rotation("X", row[8])
    knee = thigh + at_thigh @ (0, -4, 0.5)
    at_knee = at_thigh @ rotation("X", row[9])
    spine = hips + at_hips @ (row[10:13] if spine_is_absolute else row[10:13] + (0, 2, 0))
    at_spine = at_hips @ rotation("X", row[13]) @ rotation("Y", row[14]) @ rotation("Z", row[15])
    return np.stack((hips, thigh, knee, knee + at_knee @ (0, -3.5, 0), spine, spine + at_spine @ (0.5, 1, 0)))


@pytest.mark.parametrize("absolute", [True, False])
def test_equals_a_plain_loop(tmp_path, absolute):
    rng = np.random.default_rng(0)
    values = rng.uniform(-180, 180, (7, 16)).round(6)
    values[:, 10:13] = ((0, 2, 0) if absolute else (0, 0, 0)) + rng.normal(0, 0.01, (7, 3)).round(6)
    motion = read_bvh(write(tmp_path, text_of(values)))
    assert motion.joints == JOINTS and motion.positions.shape == (7, 6, 3) and motion.unit is None
    assert motion.fps == pytest.approx(120, abs=0.01)
    for row, positions in zip(values, motion.positions, strict=True):
        assert positions == pytest.approx(plain_loop(row, absolute), abs=1e-9)


def test_windows_line_ends_tabs_and_a_byte_order_mark(tmp_path):
    values = np.random.default_rng(1).uniform(-90, 90, (3, 16)).round(6)
    expected = read_bvh(write(tmp_path, text_of(values))).positions
    path = tmp_path / "windows.bvh"
    text = text_of(values).replace("  ", "\t").replace("CHANNELS ", "CHANNELS\t").replace("\n", " \r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert np.array_equal(read_bvh(path).positions, expected)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: "", "is empty"),
        (lambda t: "solid cube\n" + t, "not a BVH file"),
        (lambda t: t.replace("  OFFSET 1.0 2.0 3.0\n", ""), "joint 'Hips' has no OFFSET"),
        (lambda t: t.replace("OFFSET 1.0 2.0 3.0", "OFFSET 1.0 2.0"), "line 4: found '1.0 2.0', expected 3 numbers"),
        (lambda t: t.replace("CHANNELS 1 Xrotation", "CHANNELS 2 Xrotation"), "line 12: CHANNELS '2 Xrotation'"),
        (lambda t: t.replace("CHANNELS 1 Xrotation", "CHANNELS 1 Wrotation"), "such as Xrotation"),
        (lambda t: t.replace("}\nMOTION", "MOTION"), "before the hierarchy is complete (1 '}' missing)"),
        (lambda t: t.replace("}\nMOTION", "}\n}\nMOTION"), "'}' too many"),
        (lambda t: t.replace("  JOINT Spine", "  ROOT Spine"), "line 19: 'ROOT Spine' in the wrong place"),
        (lambda t: t.replace("JOINT Knee", "BONE Knee"), "line 9: 'BONE Knee'"),
        (lambda t: t[: t.index("MOTION")], "has no MOTION"),
        (lambda t: t.replace("Frames: 4", "Pictures: 4"), "expected 'Frames:' and 'Frame Time:'"),
        (lambda t: t.replace("0.008333", "0"), "Frame Time is 0.0"),
        (lambda t: t[: t.index("0.008333") + 8], "has 0 frames; 'Frames:' promises 4"),
        (lambda t: t.rstrip()[:-10], "line 35 has 15 numbers; the hierarchy has 16 channels"),
        (lambda t: t.rstrip()[:-8] + "nan", "NaN or infinity"),
        (lambda t: t.rstrip()[:-8] + "0.1.2", "is no number"),
    ],
)
def test_broken_files(tmp_path, change, words):
    values = np.full((4, 16), -1.5)
    text = change(text_of(values))
    with pytest.raises(InputError) as error:
        read_bvh(write(tmp_path, text))
    assert words in str(error.value) and "clip.bvh" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("promised", [3, 5])
def test_a_count_of_frames_that_is_off_is_only_warned_of(tmp_path, caplog, promised):
    values = np.random.default_rng(1).uniform(-90, 90, (4, 16)).round(6)
    whole = read_bvh(write(tmp_path, text_of(values)))
    motion = read_bvh(write(tmp_path, text_of(values).replace("Frames: 4", f"Frames: {promised}")))
    assert np.array_equal(motion.positions, whole.positions) and len(motion.positions) == 4
    assert f"has 4 frames, all of which are read; 'Frames:' promises {promised}" in caplog.text


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot read .*no.bvh"):
        read_bvh(tmp_path / "no.bvh")
