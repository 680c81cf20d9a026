"""Pictures of a lifted pose: the 2D pose over its image, the 3D pose from all sides, and films of both.

Pillow on the geometry of `common.draw.scene`: a lifted pose has no unit (its size is that of the normalised 2D pose),
so no measure is written on the floor. Frames: 2D is pixels, y down; 3D is the camera frame (x right, y down, z
forward), root-relative, any unit, and turns about its vertical axis, the image's: x' = x cos a + z sin a. The left side
is blue, the right side orange.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.draw.colours import COLOURS, FLOOR, GRID, INK, PAPER, SHADOW
from common.draw.gif import FASTEST, save_gif, save_picture
from common.draw.scene import NEARLY_LEVEL, Panel, as_array, check_points, drawn_bones, panels_3d, side_of, to_z_up
from common.errors import InputError
from common.skeleton import H36M_17, Skeleton

STEP = 15  # degrees between two of the published views
SMOOTH = 3  # pictures are drawn this many times larger and then reduced
PANEL = (360, 420)  # width and height of a view, pixels
CAPTION = 22  # pixels above a view
CANVAS = 640  # pixels, the longer side of a blank canvas
MARGIN = 0.08  # around a body on a blank canvas, of its size


def save_overlay(path, points, image: Image.Image | None = None, skeleton: Skeleton = H36M_17) -> Path:
    """Write a 2D pose (J, 2), pixels, over its image (None: on a blank canvas that holds it) as `.jpg` or `.png`."""
    return save_picture(path, overlay(points, image, skeleton))


def save_views(folder, pose, skeleton: Skeleton = H36M_17, step: int = STEP) -> list[Path]:
    """Write `rot_000_degree.png`, `rot_015_degree.png`, ... of a pose (J, 3) into `folder`."""
    if step not in range(1, 361) or 360 % step:
        raise InputError(f"found a view every {step} degrees; expected a whole number that divides 360")
    angles = range(0, 360, step)
    pictures = turned(pose, angles, skeleton)
    return [
        save_picture(Path(folder) / f"rot_{angle:03d}_degree.png", picture)
        for angle, picture in zip(angles, pictures, strict=True)
    ]


def save_turning_gif(path, pose, skeleton: Skeleton = H36M_17, step: int = 5, seconds: float = 6.0) -> Path:
    """Write a pose (J, 3) turning once around as a GIF that loops."""
    angles = range(0, 360, step)
    return save_gif(path, turned(pose, angles, skeleton), min(FASTEST, len(angles) / seconds))


def save_film(
    path,
    points,
    poses,
    images: Sequence[Image.Image] | None = None,
    skeleton: Skeleton = H36M_17,
    fps: float = 25.0,
    turn: float = 30.0,
) -> Path:
    """Write a sequence as a GIF: the 2D pose, the 3D pose as the camera sees it, and the 3D pose from all sides.

    Args:
        points, poses: (T, J, 2) pixels and (T, J, 3).
        images: T of them, or one for all frames, or None.
        fps: frames per second; above a GIF's 50 frames are left out.
        turn: of the third panel, degrees per second.
    """
    points = check_points("2D poses", points, skeleton, (2,))
    poses = check_points("3D poses", poses, skeleton, (3,))
    if len(points) != len(poses) or (images is not None and len(images) not in (1, len(points))):
        found = "" if images is None else f" and {len(images)} images"
        raise InputError(f"found {len(points)} 2D poses, {len(poses)} 3D poses{found}; give one of each for a frame")
    if not fps > 0:
        raise InputError(f"found {fps} frames per second; expected more than 0")
    keep = slice(None, None, int(np.ceil(fps / FASTEST)))
    chosen = range(len(points))[keep]
    front = _turned_panel(poses[keep], np.zeros(len(chosen)), skeleton)
    around = _turned_panel(poses[keep], turn / fps * np.array(chosen), skeleton)
    if images is not None:
        _check_on_picture(points[0], images[0])

    def frames() -> Iterator[Image.Image]:
        for i, flat in enumerate(_flat_panels(points, images, skeleton, chosen)):
            place = f"2D, frame {chosen[i] + 1}/{len(points)}, {chosen[i] / fps:.2f} s ({fps:.4g} fps)"
            captions = (place, "3D as the camera sees it", "3D from all sides")
            yield _row((flat, _picture(front, i), _picture(around, i)), captions)

    photographs = () if images is None else (_fitted(images[0])[0],)
    return save_gif(path, frames(), fps / keep.step, photographs, len(points) / fps)


# ------------------------------------------------------------ pictures


def overlay(points, image: Image.Image | None = None, skeleton: Skeleton = H36M_17) -> Image.Image:
    """A 2D pose (J, 2) over its image, on any ground set off by a white edge; without an image it fills white paper."""
    points = check_points("2D pose", as_array(points)[None], skeleton, (2,))
    if image is None:
        points, (width, height) = _on_paper(points)
        image = Image.new("RGB", (width, height), PAPER)
    _check_on_picture(points[0], image)
    return _with_legend(_with_pose(image.convert("RGB"), points[0], skeleton))


def _with_pose(picture: Image.Image, points: np.ndarray, skeleton: Skeleton) -> Image.Image:
    """The picture with a pose (J, 2), pixels, drawn on it."""
    seen = points[np.isfinite(points).all(-1)]
    if not len(seen):
        return picture
    width = float(np.clip(0.014 * np.linalg.norm(np.ptp(seen, 0)), 1.5, 0.012 * max(picture.size)))
    low = np.clip(seen.min(0) - 3 * width, 0, picture.size).astype(int)  # only the part with the body is drawn on
    high = np.clip(seen.max(0) + 3 * width + 1, 0, picture.size).astype(int)
    if (high <= low).any():
        return picture
    part = picture.crop((*low.tolist(), *high.tolist()))
    large = part.resize((SMOOTH * part.width, SMOOTH * part.height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    joints, depth = SMOOTH * (points - low), np.zeros(skeleton.num_joints)
    _draw_body(pen, joints, depth, skeleton, SMOOTH * (width + 1.6), {side: PAPER for side in COLOURS})
    _draw_body(pen, joints, depth, skeleton, SMOOTH * width, COLOURS)
    drawn = picture.copy()
    drawn.paste(large.reduce(SMOOTH), tuple(low.tolist()))
    return drawn


def _on_paper(points: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Points (T, J, 2) moved and scaled to fill a blank canvas, and its width and height."""
    seen = points[np.isfinite(points).all(-1)]
    if not len(seen):
        return points, (CANVAS, CANVAS)
    low, size = seen.min(0), np.maximum(np.ptp(seen, 0), 1e-6)
    margin = MARGIN * size.max()
    scale = CANVAS / (size.max() + 2 * margin)
    width, height = np.ceil(scale * (size + 2 * margin)).astype(int).tolist()
    return scale * (points - low + margin), (width, height)


def turned(pose, angles: Iterable[float], skeleton: Skeleton = H36M_17) -> Iterator[Image.Image]:
    """Pictures of a pose (J, 3) turned by `angles`, degrees, all in one scale."""
    angles = np.array(list(angles), float)
    pose = check_points("3D pose", as_array(pose)[None], skeleton, (3,))
    panel = _turned_panel(np.repeat(pose, len(angles), 0), angles, skeleton)
    for t, angle in enumerate(angles):
        yield _row((_picture(panel, t),), (f"turned by {angle:.0f}\u00b0",))


def _turned_panel(poses: np.ndarray, angles: np.ndarray, skeleton: Skeleton) -> Panel:
    return panels_3d([to_z_up(poses)], [skeleton], angles, NEARLY_LEVEL)[0]


def _picture(panel: Panel, t: int) -> Image.Image:
    """One frame of a 3D panel: floor, shadow and body."""
    width, height = SMOOTH * PANEL[0], SMOOTH * PANEL[1]
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    low, high = panel.bounds.min(0), panel.bounds.max(0)
    scale = min(width / (high[0] - low[0]), height / (high[1] - low[1]))

    def place(points: np.ndarray) -> np.ndarray:
        return np.array((width, height)) / 2 + (points - (low + high) / 2) * scale * (1, -1)

    line = 0.011 * height
    pen.polygon([tuple(point) for point in place(panel.floor)], fill=FLOOR, outline=GRID)
    for start, end in place(panel.grid[t]):
        pen.line([tuple(start), tuple(end)], fill=GRID, width=SMOOTH)
    _draw_body(
        pen, place(panel.shadow[t]), panel.depth[t], panel.skeleton, line, {side: SHADOW for side in COLOURS}, 0.5
    )
    _draw_body(pen, place(panel.joints[t]), panel.depth[t], panel.skeleton, line, COLOURS)
    return _with_legend(picture.reduce(SMOOTH))


def _draw_body(
    pen, joints: np.ndarray, depth: np.ndarray, skeleton: Skeleton, width: float, colours, dots=0.85
) -> None:
    """Bones, the far ones first, and joints as discs of `dots` times the width; a joint that is NaN is left out."""
    bones = drawn_bones(skeleton)
    for bone in bones[np.argsort(-depth[bones].mean(1), kind="stable")]:
        if np.isfinite(joints[bone]).all():
            pen.line(
                [tuple(joint) for joint in joints[bone]], fill=colours[side_of(skeleton, *bone)], width=round(width)
            )
    for j in np.argsort(-depth, kind="stable"):
        if np.isfinite(joints[j]).all():
            radius = dots * width
            box = [*(joints[j] - radius), *(joints[j] + radius)]
            pen.ellipse(box, fill=colours[side_of(skeleton, j)])


def _with_legend(picture: Image.Image) -> Image.Image:
    """Write what the colours mean into the lower left corner, larger on large pictures."""
    unit = max(picture.size) / 420 if max(picture.size) > 640 else 1.0
    pen, font, x = ImageDraw.Draw(picture), _font(round(13 * unit)), 6 * unit
    y = picture.height - 20 * unit
    for side in ("left", "right"):
        length = pen.textlength(side, font=font)
        pen.rectangle((x - 2 * unit, y, x + length + 18 * unit, y + 17 * unit), fill=PAPER)
        pen.line((x, y + 9 * unit, x + 12 * unit, y + 9 * unit), fill=COLOURS[side], width=round(4 * unit))
        pen.text((x + 16 * unit, y), side, fill=INK, font=font)
        x += length + 28 * unit
    return picture


def _row(panels: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Panels side by side under their captions."""
    row = Image.new("RGB", (sum(panel.width for panel in panels), CAPTION + panels[0].height), PAPER)
    pen, x = ImageDraw.Draw(row), 0
    for panel, caption in zip(panels, captions, strict=True):
        row.paste(panel, (x, CAPTION))
        pen.text((x + panel.width / 2, CAPTION / 2), caption, fill=INK, font=_font(14), anchor="mm")
        x += panel.width
    return row


def _flat_panels(points: np.ndarray, images: Sequence[Image.Image] | None, skeleton: Skeleton, chosen: Iterable[int]):
    """The 2D pose in the frames `chosen` over their images, each as large as a panel lets it be."""
    if images is None:
        points, size = _on_paper(points)
        images = [Image.new("RGB", size, PAPER)]
    panels = {}
    for t in chosen:
        k = t if len(images) > 1 else 0
        if k not in panels:
            panels = {k: _fitted(images[k])}  # one is kept: a still image is fitted once, a video frame by frame
        panel, scale, corner = panels[k]
        yield _with_legend(_with_pose(panel, scale * points[t] + corner, skeleton))


def _fitted(picture: Image.Image) -> tuple[Image.Image, float, np.ndarray]:
    """The picture in the middle of a white panel; its scale there, and its upper left corner (2,)."""
    scale = min(PANEL[0] / picture.width, PANEL[1] / picture.height)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    corner = (PANEL[0] - size[0]) // 2, (PANEL[1] - size[1]) // 2
    panel = Image.new("RGB", PANEL, PAPER)
    panel.paste(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR), corner)
    return panel, scale, np.array(corner)


def _check_on_picture(points: np.ndarray, picture: Image.Image) -> None:
    """Refuse keypoints that belong to another picture (or are not in pixels)."""
    seen = points[np.isfinite(points).all(-1)]
    if len(seen) and not ((seen > -1) & (seen < picture.size)).all(-1).any():
        x, y = seen.mean(0)
        raise InputError(
            f"every joint lies outside the picture of {picture.width} x {picture.height} pixels (the middle is at "
            f"{x:.0f}, {y:.0f}): do image and keypoints belong together, and are the keypoints pixels?"
        )


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
