"""Acclaim: bones as a plain loop over frames finds them, CMU's unit, a motion's skeleton; broken files are named."""

import numpy as np
import pytest

from common.errors import InputError
from common.mocap.acclaim import find_asf, read_amc, read_asf

ASF = """# AST/ASF file generated using VICON BodyLanguage
:version 1.10
:name VICON
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   .ast/.asf automatically generated
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name lhipjoint
     direction 0.6 -0.8 0.0
     length 2.5
     axis 0 0 0  XYZ
  end
  begin
     id 2
     name lfemur
     direction 0.36 -0.8 0.48
     length 7.0
     axis 10 -20 30  XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 3
     name ltibia
     direction 0 -1 0
     length 7.5
     axis 5 15 25  ZXY
    dof rx
    limits (-10.0 170.0)
  end
:hierarchy
  begin
    root lhipjoint
    lhipjoint lfemur
    lfemur ltibia
  end
"""


def rotation(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def plain_loop(root, femur, tibia):
    """One frame, written out: root 6 values, femur 3, tibia 1."""
    xyz = lambda a, b, c: rotation("z", c) @ rotation("y", b) @ rotation("x", a)  # noqa: E731
    place, at_root = root[:3], xyz(*root[3:])
    hip = place + at_root @ (np.array((0.6, -0.8, 0)) * 2.5)
    c = xyz(10, -20, 30)
    at_femur = at_root @ c @ xyz(*femur) @ c.T
    knee = hip + at_femur @ (np.array((0.36, -0.8, 0.48)) * 7)
    c = rotation("y", 15) @ rotation("x", 5) @ rotation("z", 25)
    at_tibia = at_femur @ c @ rotation("x", tibia[0]) @ c.T
    return np.stack((place, hip, knee, knee + at_tibia @ (0, -7.5, 0)))


def motion_text(values):
    lines = ["#!OML:ASF H:\\VICON\\02.asf", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, row in enumerate(values, 1):
        words = [f"{value:.7g}" for value in row]
        lines += [str(number), "root " + " ".join(words[:6]), "lfemur " + " ".join(words[6:9]), "ltibia " + words[9]]
    return "\n".join(lines) + "\n"


@pytest.fixture
def files(tmp_path):
    """Writes the skeleton and the motion; returns the path of the motion."""

    def write(values=None, asf=ASF, change=lambda text: text, name="02_01"):
        values = np.random.default_rng(0).uniform(-90, 90, (6, 10)) if values is None else values
        (tmp_path / "02.asf").write_text(asf)
        path = tmp_path / f"{name}.amc"
        path.write_text(change(motion_text(values)))
        return path

    return write


def test_equals_a_plain_loop(files):
    values = np.random.default_rng(0).uniform(-90, 90, (6, 10)).round(4)
    motion = read_amc(files(values))
    assert motion.joints == ("root", "lhipjoint", "lfemur", "ltibia") and motion.fps == 120 and motion.up == "y"
    assert motion.unit == pytest.approx(0.0254 / 0.45)
    for row, positions in zip(values, motion.positions, strict=True):
        assert positions == pytest.approx(plain_loop(row[:6], row[6:9], row[9:]), abs=1e-5)


def test_another_order_of_columns(files):
    values = np.random.default_rng(0).uniform(-90, 90, (6, 10)).round(4)
    expected = read_amc(files(values)).positions
    asf = ASF.replace("order TX TY TZ RX RY RZ", "order RX RY RZ TZ TX TY")
    found = read_amc(files(values[:, [3, 4, 5, 2, 0, 1, 6, 7, 8, 9]], asf)).positions
    assert found == pytest.approx(expected, abs=1e-5)
    turned = read_amc(files(values, ASF.replace("dof rx ry rz", "dof rz ry rx"))).positions
    assert np.abs(turned - expected).max() > 0.5


def test_radians(files):
    values = np.random.default_rng(0).uniform(-90, 90, (6, 10)).round(4)
    expected = read_amc(files(values)).positions
    radians = values.copy()
    radians[:, 3:] = np.radians(radians[:, 3:])
    asf = ASF.replace("angle deg", "angle rad")
    for degrees in ("10 -20 30", "5 15 25"):
        asf = asf.replace(degrees, " ".join(f"{np.radians(float(a)):.9f}" for a in degrees.split()))
    found = read_amc(files(radians, asf, lambda text: text.replace(":DEGREES\n", ":RADIANS\n"))).positions
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_skeleton_of_a_motion(tmp_path):
    for name in ("02.asf", "021.asf", "3.ASF"):
        (tmp_path / name).write_text(ASF)
    assert find_asf(tmp_path / "02_01.amc").name == "02.asf" and find_asf(tmp_path / "021_4.amc").name == "021.asf"
    with pytest.raises(InputError, match="needs the skeleton .* there are 02.asf, 021.asf, 3.ASF"):
        find_asf(tmp_path / "walk.amc")
    with pytest.raises(InputError, match="there is no .asf"):
        find_asf(tmp_path / "other" / "walk.amc")
    (tmp_path / "02.asf").unlink()
    (tmp_path / "021.asf").unlink()
    assert find_asf(tmp_path / "walk.amc").name == "3.ASF"


@pytest.mark.parametrize(
    "old, new, words",
    [
        (":bonedata", ":bones", "it has no :bonedata"),
        (":hierarchy", ":documentation", "it has no :hierarchy"),
        ("     direction 0 -1 0\n", "", "bone ltibia has no direction"),
        ("direction 0 -1 0", "direction 0 -1", "bone ltibia, direction: found '0 -1', expected 3 numbers"),
        ("dof rx\n", "dof rx tx\n", "bone ltibia moves by 'rx tx'"),
        ("25  ZXY", "25  ZZY", "found the order 'ZZY'"),
        ("name ltibia", "name lfemur", "bone lfemur is there twice"),
        ("lfemur ltibia", "lfemur lshin", "unknown bones lshin"),
        ("    lfemur ltibia\n", "", "ltibia hang on no bone"),
        ("    root lhipjoint\n", "", "in no tree"),
        ("length 0.45", "length 0", ":units length is 0.0"),
    ],
)
def test_broken_skeletons(files, old, new, words):
    assert old in ASF
    with pytest.raises(InputError) as error:
        read_amc(files(asf=ASF.replace(old, new)))
    assert words in str(error.value) and "02.asf" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: "", "it has no frame"),
        (lambda t: t.replace("ltibia", "rtibia"), "does not have: rtibia"),
        (lambda t: t.replace("\n3\nroot ", "\n3\nroot 0 "), "frame 3: bone root has 7 values; its skeleton has 6"),
        (lambda t: t[: t.rindex("ltibia")], "frame 6 does not list the 3 bones"),
        (lambda t: t[: t.rindex("ltibia") + 7] + "1.2.3\n", "something that is no number"),
        (lambda t: t[: t.rindex("ltibia") + 7] + "nan\n", "NaN or infinity"),
    ],
)
def test_broken_motions(files, change, words):
    with pytest.raises(InputError) as error:
        read_amc(files(change=change))
    assert words in str(error.value) and "02_01.amc" in str(error.value) and "\n" not in str(error.value)


def test_a_skeleton_without_a_unit(files):
    assert read_asf(files(asf=ASF.replace("  length 0.45\n", "")).parent / "02.asf").metres is None
