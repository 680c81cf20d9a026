"""Pictures of what PoseAug's augmentor makes of a pose: a column for each stage, in 2D and in 3D.

Frames: poses are camera-frame metres (x right, y down, z forward), keypoints screen-normalised (y down).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.draw.animation import COLOURS, DPI, GRID, INK, PAPER, draw_view
from common.draw.scene import View, as_array, check_points, to_z_up, view_2d, views_3d
from common.errors import InputError
from common.files.atomic import atomic_path
from common.skeleton import H36M_16, Skeleton

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = ("original", "bone angle", "bone length", "rigid motion")
ROWS = ("2D on the screen\n(screen units)", "3D as the camera\nsees it", "3D from the side,\ncamera to the left")
ELEVATION = 8.0
PANEL, LEFT, TOP, BOTTOM, GAP = 250, 78, 62, 40, 10  # pixels
WIDEST = 2.5  # screen units: the clamped projection of what lies beside or behind the camera ends about there


def save_stages(path, keypoints, poses) -> Path:
    """`save_augmentation` of keypoints (4, 16, 2) and poses (4, 16, 3), arrays or tensors, in the order of `STAGES`."""
    keypoints, poses = as_array(keypoints), as_array(poses)
    if not len(keypoints) == len(poses) == len(STAGES):
        raise InputError(
            f"found {len(keypoints)} sets of keypoints and {len(poses)} poses, expected {len(STAGES)} each"
        )
    return save_augmentation(
        path, dict(zip(STAGES, poses, strict=True)), dict(zip(STAGES, keypoints, strict=True)), H36M_16
    )


def save_augmentation(path, poses: Mapping, keypoints: Mapping, skeleton: Skeleton) -> Path:
    """Write a PNG with a column for each stage of augmentation: its 2D pose, its 3D pose from the front and the side.

    Args:
        poses: stage -> (J, 3), camera-frame metres; drawn relative to the root, all in one scale. Every body's floor
            lies at its lowest joint, level with the camera.
        keypoints: stage -> (J, 2), screen-normalised: the screen spans x from -1 to 1, and y likewise, downwards. Its
            edge is drawn; points beyond it show as far as 2.5. Same stages as `poses`.
        skeleton: of the joints.

    Raises:
        InputError: no stage, other stages in one than in the other, wrong shapes, or a path that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"cannot write {path}: unknown format {path.suffix!r}; use .png")
    if not poses or set(poses) != set(keypoints):
        raise InputError(
            f"found poses {list(poses)} and keypoints {list(keypoints)}; give the same stages, at least one"
        )
    solid = [check_points(f"pose {name!r}", as_array(pose)[None], skeleton, (3,)) for name, pose in poses.items()]
    flat = [check_points(f"keypoints {name!r}", as_array(keypoints[name])[None], skeleton, (2,)) for name in poses]
    skeletons, upright = [skeleton] * len(solid), [to_z_up(pose) for pose in solid]
    # at 0 degrees the turntable looks as the camera does
    front, side = (views_3d(upright, skeletons, np.array([azimuth]), ELEVATION) for azimuth in (0.0, 90.0))
    figure = _figure(list(poses), (_screen_views(flat, skeleton), front, side))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _screen_views(keypoints: list[np.ndarray], skeleton: Skeleton) -> list[View]:
    """Views of keypoints (1, J, 2) in one scale: the screen, and what lies beyond it within reason."""
    furthest = np.nanmax(np.abs(np.concatenate([*keypoints, np.ones_like(keypoints[0])])))
    edge = 1.06 * min(max(furthest, 1.0), WIDEST)
    bounds = np.array(((-edge, edge), (edge, -edge)))  # y points down
    return [replace(view_2d(points, skeleton), bounds=bounds) for points in keypoints]


def _figure(names: list[str], rows: tuple[list[View], ...]) -> Figure:
    """All panels on one page, measured in pixels from the upper left corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = LEFT + len(names) * (PANEL + GAP), TOP + len(rows) * (PANEL + GAP) + BOTTOM
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    for row, views in enumerate(rows):
        top = TOP + row * (PANEL + GAP)
        for column, view in enumerate(views):
            left = LEFT + column * (PANEL + GAP)
            box = (left / width, 1 - (top + PANEL) / height, PANEL / width, PANEL / height)
            axes = figure.add_axes(box, facecolor="none")
            draw_view(axes, view)
            if row == 0:
                _show_screen(axes, first=column == 0)
                axes.set_title(names[column], fontsize=12, fontweight="bold", color=INK, parse_math=False, pad=8)
        figure.text(
            20 / width, 1 - (top + PANEL / 2) / height, ROWS[row], rotation=90, ha="center", va="center", fontsize=11,
            color=INK,
        )  # fmt: skip
    _legend(figure, next(view.spacing for view in rows[1]))
    return figure


def _show_screen(axes: Axes, first: bool) -> None:
    """The screen's edge, and its units along the first panel."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor=GRID, linewidth=1.2, linestyle="--", zorder=0))
    axes.spines[:].set_color(GRID)
    ticks = (-1, 0, 1)
    axes.set(xticks=ticks, yticks=ticks, xticklabels=ticks, yticklabels=ticks if first else [])
    axes.tick_params(labelsize=8, color=GRID, labelcolor=INK, pad=2, direction="in")


def _legend(figure: Figure, spacing: float | None) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=3) for colour in COLOURS.values()]
    lines += [Line2D([], [], color=GRID, linewidth=1.2, linestyle="--"), Line2D([], [], color=GRID, linewidth=1.2)]
    labels = [*COLOURS, "edge of the screen (\u00b11)", f"floor grid {spacing:g} m"]
    figure.legend(
        lines, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=10, handlelength=1.6,
        borderaxespad=0.3, labelcolor=INK,
    )  # fmt: skip
