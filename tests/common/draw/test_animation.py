"""Pictures of a small walking stick figure: form of the files, colours, orientation, and what bad input does."""

import os
import stat

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from common.camera import h36m_cameras, world_to_camera
from common.draw import animation, scene
from common.draw.colours import COLOURS, FLOOR, INK, PAPER
from common.errors import InputError
from common.skeleton import COCO_17, H36M_16, H36M_17, LAYOUTS, convert

FRAMES = 5
TITLES = ["2D input", "Prediction", "Ground truth"]


def walking(frames: int = FRAMES) -> np.ndarray:
    """A figure that walks along y, z up, metres: (frames, 17, 3); its left is at -x, seen from behind at azimuth 0."""
    pose = np.zeros((17, 3))
    pose[:, 2] = (0.95, 0.95, 0.5, 0.05, 0.95, 0.5, 0.05, 1.2, 1.45, 1.55, 1.7, 1.4, 1.15, 0.9, 1.4, 1.15, 0.9)
    pose[list(H36M_17.left), 0] = -0.2
    pose[list(H36M_17.right), 0] = 0.2
    poses = np.repeat(pose[None], frames, 0)
    stride = 0.25 * np.sin(np.linspace(0, np.pi, frames))
    for joint, sign in ((3, 1), (6, -1), (13, 1), (16, -1)):
        poses[:, joint, 1] += sign * stride
    poses[..., 1] += 0.1 * np.arange(frames)[:, None]
    return poses


def pixels(poses: np.ndarray) -> np.ndarray:
    """Keypoints of z-up poses as a level camera behind the figure sees them, y down."""
    return np.stack((500 + 300 * poses[..., 0], 800 - 300 * poses[..., 2]), -1)


def three_panels() -> list:
    poses = walking()
    return [pixels(poses), torch.from_numpy(poses).float(), poses]


def film(tmp_path, name="walk.gif", **options):
    return animation.save_animation(tmp_path / name, three_panels(), TITLES, H36M_17, width=600, **options)


def gif_frames(path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        frames = []
        for t in range(gif.n_frames):
            gif.seek(t)
            frames.append(np.asarray(gif.convert("RGB")).astype(int))
    return frames


def where(picture: np.ndarray, colour: str) -> np.ndarray:
    """(row, column) of the pixels that are exactly of a colour."""
    return np.argwhere((picture == np.array(to_rgb(colour)) * 255).all(-1))


def on_axes(paint) -> np.ndarray:
    """Pixels (200, 200, 3) of what `paint(axes)` draws on axes that fill a figure."""
    figure = Figure(figsize=(2, 2), dpi=100)
    canvas = FigureCanvasAgg(figure)
    paint(figure.add_axes((0, 0, 1, 1)))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


# ------------------------------------------------------------------------------------------------------------ geometry


def test_level_camera_pose_stands_upright():
    head_in_camera = np.array((0.1, -0.7, 0.3))  # right, above, behind
    np.testing.assert_allclose(scene.to_z_up(head_in_camera), (0.1, 0.3, 0.7))


@pytest.mark.parametrize("view", range(4))
def test_orientation_gives_the_world_vertical_and_the_cameras_azimuth(view):
    camera = h36m_cameras()["S9"][view]
    orientation, translation = torch.tensor(camera.orientation), torch.tensor(camera.translation)
    world = torch.from_numpy(walking()).float()
    seen = world_to_camera(world, orientation, translation)
    relative = scene.to_z_up(seen - seen[:, :1], orientation)
    np.testing.assert_allclose(relative, world - world[:, :1], atol=1e-5)
    # the turntable at the camera's azimuth sees left and right where the camera does
    screen, _ = scene.turntable(relative, scene.camera_azimuth(orientation), elevation=0.0, distance=1e6)
    np.testing.assert_allclose(screen[..., 0], (seen - seen[:, :1])[..., 0], atol=0.08)  # these cameras roll a little


def test_turntable_keeps_heights_and_hides_far_behind_near():
    points = np.array(((0, 0, 1.0), (0, 1.0, 0), (0, -1.0, 0)))
    screen, depth = scene.turntable(points, elevation=10, distance=6)
    assert screen[0, 1] == pytest.approx(np.cos(np.radians(10)) * 6 / (6 - np.sin(np.radians(10))))
    assert depth[1] > depth[0] > depth[2]
    turned, _ = scene.turntable(points, azimuth=np.array((0, 90, 90)), elevation=10, distance=6)
    assert turned[1, 0] == pytest.approx(1) and turned[2, 0] == pytest.approx(-1)


@pytest.mark.parametrize("place", scene.PLACES)
def test_nothing_leaves_the_bounds_while_turning_and_the_floor_is_at_the_lowest_joint(place):
    poses = walking()
    poses[2, :, 2] += 0.3  # a jump
    (panel,) = scene.panels_3d([poses], [H36M_17], np.linspace(0, 360, FRAMES), place=place)
    for points in (panel.joints, panel.floor, panel.grid, panel.shadow):
        assert (points.reshape(-1, 2) >= panel.bounds[0]).all() and (points.reshape(-1, 2) <= panel.bounds[1]).all()
    gap = (panel.joints - panel.shadow)[..., 1].min(1)  # of the lowest joint over its shadow
    assert gap.min() == pytest.approx(0, abs=1e-9)
    # only a floor that follows the feet, or a root that is held still, hides the jump
    assert (gap[2] > 0.2) == (place == "world")


@pytest.mark.parametrize("scale", (1e-3, 1.0, 1e3))
def test_view_does_not_depend_on_the_size_of_the_scene(scale):
    (small,) = scene.panels_3d([walking()], [H36M_17], np.zeros(FRAMES))
    (large,) = scene.panels_3d([walking() * scale], [H36M_17], np.zeros(FRAMES))
    np.testing.assert_allclose(large.joints, small.joints * scale, rtol=1e-9)
    assert len(large.grid[0]) < 30


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_joins_its_joints_and_keeps_sides_apart(layout):
    bones = scene.drawn_bones(layout)
    assert set(bones.ravel()) == set(range(layout.num_joints))
    sides = [scene.side_of(layout, *bone) for bone in bones]
    assert sides.count("left") == sides.count("right") >= 6
    mirrored = [scene.side_of(layout, *(layout.mirror[j] for j in bone)) for bone in bones]
    swap = {"left": "right", "right": "left", "centre": "centre"}
    assert mirrored == [swap[side] for side in sides]


# ---------------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize("kind", ("2d", "3d"))
def test_skeleton_on_given_axes_is_upright_with_its_sides_coloured(kind):
    pose = walking(1)[0]

    def paint(axes):
        flat = scene.panel_2d(pixels(pose)[None], H36M_17)
        animation.draw_panel(axes, flat if kind == "2d" else scene.panels_3d([pose[None]], [H36M_17], np.zeros(1))[0])

    picture = on_axes(paint)
    left, right, centre = (where(picture, COLOURS[side]) for side in ("left", "right", "centre"))
    assert min(len(left), len(right), len(centre)) > 50
    assert left[:, 1].mean() < 95 < 105 < right[:, 1].mean()  # seen from behind
    assert centre[:, 0].min() < left[:, 0].min() < left[:, 0].max() - 60  # head above shoulder above foot
    assert (len(where(picture, FLOOR)) > 500) == (kind == "3d")


@pytest.mark.parametrize(
    "points", (np.zeros((1, 16, 2)), np.zeros((1, 17, 3)), np.zeros((17, 2)), np.zeros((0, 17, 2)))
)
def test_wrong_keypoints_are_refused_by_shape(points):
    with pytest.raises(InputError, match="expected .*17"):
        scene.check_points("keypoints", points, H36M_17, (2,))


# --------------------------------------------------------------------------------------------------------------- films


def test_gif_has_the_frames_size_delays_and_loop_asked_for(tmp_path):
    path = film(tmp_path, fps=30, errors=np.arange(FRAMES) * 10.0, metric="P-MPJPE")
    with Image.open(path) as gif:
        assert gif.n_frames == FRAMES and gif.width == 600 and gif.info["loop"] == 0
        delays = []
        for t in range(FRAMES):
            gif.seek(t)
            delays.append(gif.info["duration"])
    assert sum(delays) == 170  # 5 / 30 s in whole hundredths
    assert set(delays) <= {30, 40}
    assert os.listdir(tmp_path) == ["walk.gif"]


def test_gif_frames_differ_and_show_upright_coloured_figures_on_a_floor(tmp_path):
    frames = gif_frames(film(tmp_path))
    assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))
    height = len(frames[0])
    for picture in frames:
        assert len(where(picture, PAPER)) > picture.size / 3 / 2  # flat paper, not a neighbour of white
        for panel in range(3):
            body = picture[: int(0.85 * height), 200 * panel : 200 * (panel + 1)]  # without the legend
            left, right, head = (where(body, COLOURS[side]) for side in ("left", "right", "centre"))
            assert min(len(left), len(right), len(head)) > 30
            assert left[:, 1].mean() < right[:, 1].mean()
            assert head[:, 0].min() < left[:, 0].min() < left[:, 0].max() - 50
            assert (len(where(body, FLOOR)) > 500) == (panel > 0)


def test_limits_stand_still_while_the_figure_moves(tmp_path):
    poses = walking()
    moving = pixels(poses) + np.arange(FRAMES)[:, None, None] * (40.0, 0.0)
    path = animation.save_animation(tmp_path / "walk.gif", [moving], ["2D"], H36M_17, width=300)
    columns = [where(picture[:-60], COLOURS["left"])[:, 1].mean() for picture in gif_frames(path)]
    assert (np.diff(columns) > 5).all()


def test_errors_are_written_under_their_panels(tmp_path):
    plain = gif_frames(film(tmp_path, turn=0))[0]
    named = gif_frames(film(tmp_path, turn=0, errors={2: np.full(FRAMES, 52.3)}))[0]
    changed = np.argwhere((plain != named).any(-1))
    assert len(changed) > 50 and (changed[:, 1] > 400).all()
    made = scene.make_scene(
        three_panels(), TITLES, H36M_17, errors=np.array((52.34, np.nan, 1, 2, 3)), metric="P-MPJPE"
    )
    assert made.caption(1, 0) == "P-MPJPE 52.3 mm" and made.caption(1, 1) == "P-MPJPE unknown"
    assert made.caption(0, 0) == "frame 1/5" and made.caption(2, 0) == ""


def test_long_titles_are_cut_to_their_panel(tmp_path):
    titles = ["word " * 40, "$x", "Ground truth"]
    path = animation.save_animation(tmp_path / "walk.gif", three_panels(), titles, H36M_17, width=600)
    ink = where(gif_frames(path)[0][:22], INK)[:, 1]
    assert ink.min() > 2 and not ((ink > 197) & (ink < 203)).any()


@pytest.mark.parametrize(
    ("missing", "name"), (("root", "walk.gif"), ("frame", "walk.gif"), ("all", "walk.gif"), ("all", "walk.png"))
)
def test_missing_joints_are_left_out(tmp_path, missing, name):
    keypoints, prediction, truth = pixels(walking()), walking(), walking()
    gone = {"root": np.s_[:, 0], "frame": np.s_[2], "all": np.s_[:]}[missing]
    for panel in (keypoints, prediction, truth):
        panel[gone] = np.inf if missing == "root" else np.nan
    animation.save_animation(tmp_path / name, [keypoints, prediction, truth], TITLES, H36M_17, width=300)
    if name == "walk.gif":
        frames = gif_frames(tmp_path / name)
        assert len(frames) == FRAMES
        coloured = [len(where(picture[:-40], COLOURS["left"])) > 0 for picture in frames]
        assert coloured == {"root": [1] * 5, "frame": [1, 1, 0, 1, 1], "all": [0] * 5}[missing]


def test_contact_sheet_has_a_column_for_each_chosen_frame(tmp_path):
    with Image.open(film(tmp_path, "sheet.png", errors=np.ones(FRAMES))) as sheet:
        picture = np.asarray(sheet.convert("RGB")).astype(int)
    assert picture.shape[1] == 600
    columns = np.unique(where(picture[:-30], COLOURS["left"])[:, 1])
    assert 1 + (np.diff(columns) > 20).sum() == FRAMES
    rows = np.unique(where(picture[:-30], COLOURS["left"])[:, 0])
    assert 1 + (np.diff(rows) > 20).sum() == 3


def test_panels_may_have_layouts_of_their_own(tmp_path):
    poses = walking(2)
    coco = np.zeros((2, 17, 2))
    coco[:, 5:] = 100 + np.random.default_rng(0).normal(size=(2, 12, 2))
    panels = [coco, convert(poses, H36M_17, H36M_16)]
    path = animation.save_animation(tmp_path / "a.gif", panels, ["COCO", "H36M"], [COCO_17, H36M_16], width=200)
    assert len(gif_frames(path)) == 2


def test_one_frame_is_a_film_too(tmp_path):
    path = animation.save_animation(tmp_path / "a.gif", [walking(1)], ["one"], H36M_17, width=200)
    assert len(gif_frames(path)) == 1


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (dict(panels=[walking()[:, :16]] * 3), r"'2D input': found shape \(5, 16, 3\).*17"),
        (dict(panels=[walking()[..., None]] * 3), "found shape"),
        (dict(panels=[walking()[:0]] * 3), "T > 0"),
        (dict(panels=[walking(4), walking(5), walking(5)]), "'2D input' 4, 'Prediction' 5"),
        (dict(panels=[]), "0 panels, 3 titles"),
        (dict(titles=["one"]), "3 panels, 1 titles"),
        (dict(skeleton=[H36M_17]), "1 skeletons"),
        (dict(errors=np.zeros(4)), r"panel 1: found shape \(4,\), expected \(5,\)"),
        (dict(errors={3: np.zeros(5)}), "panel from 0 to 2"),
        (dict(fps=0), "fps 0"),
        (dict(fps=60), "50 at most"),
        (dict(width=20), "width 20"),
        (dict(place="sky"), "root, floor, world"),
        (dict(path="walk.avi"), "'.avi'; use one of .gif, .mp4, .png"),
    ),
    ids=str,
)
def test_bad_input_is_named_and_leaves_no_file(tmp_path, change, message):
    options = dict(path="walk.gif", panels=three_panels(), titles=TITLES, skeleton=H36M_17) | change
    options["path"] = tmp_path / options["path"]
    with pytest.raises(InputError, match=message):
        animation.save_animation(**options)
    assert not os.listdir(tmp_path)


def test_a_failure_half_way_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    old = film(tmp_path).read_bytes()
    show = animation._Artists.show

    def stumble(self, t):
        if t == 3:
            raise OSError(28, "No space left on device")
        show(self, t)

    monkeypatch.setattr(animation._Artists, "show", stumble)
    with pytest.raises(InputError, match="walk.gif: No space left on device"):
        film(tmp_path)
    assert os.listdir(tmp_path) == ["walk.gif"] and (tmp_path / "walk.gif").read_bytes() == old


def test_folder_is_made_and_one_that_cannot_be_is_named(tmp_path):
    assert film(tmp_path / "new" / "folder").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write .*file"):
        film(tmp_path / "file")


def test_mp4_without_ffmpeg_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(animation.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="neither PyAV nor ffmpeg on the PATH"):
        film(tmp_path, "walk.mp4")
    assert not os.listdir(tmp_path)


def stand_in_ffmpeg(folder, monkeypatch, script: str) -> None:
    monkeypatch.setattr(animation.importlib.util, "find_spec", lambda name: None)
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_mp4_hands_every_picture_to_ffmpeg(tmp_path, monkeypatch):
    stand_in_ffmpeg(tmp_path / "bin", monkeypatch, 'for last in "$@"; do :; done; cat > "$last"')
    raw = np.frombuffer(film(tmp_path, "a walk; ls.mp4").read_bytes(), np.uint8)
    frames = raw.reshape(FRAMES, -1, 600, 3)
    assert frames.shape[1] % 2 == 0 and (frames[0] != frames[1]).any()


def test_mp4_repeats_what_ffmpeg_complains_about(tmp_path, monkeypatch):
    stand_in_ffmpeg(tmp_path / "bin", monkeypatch, "echo no such codec >&2; exit 3")
    with pytest.raises(InputError, match="status 3: no such codec"):
        film(tmp_path, "walk.mp4")
    assert os.listdir(tmp_path) == ["bin"]
