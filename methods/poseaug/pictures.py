"""Pictures of a pose through the stages of PoseAug's augmentor: a column for each stage, in 2D and in 3D.

Frames: poses are camera-frame metres (x right, y down, z forward), keypoints screen-normalised (y down).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.draw.animation import DPI, draw_legend, draw_panel
from common.draw.colours import GRID, INK, PAPER
from common.draw.scene import NEARLY_LEVEL, Panel, as_array, check_points, panel_2d, panels_3d, to_z_up
from common.errors import InputError
from common.files.atomic import atomic_path
from common.skeleton import H36M_16, Skeleton

if TYPE_CHECKING:  # matplotlib takes most of a second to import, so functions that draw import it themselves
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = ("original", "bone angle", "bone length", "rigid motion")
ROWS = ("2D on the screen\n(screen units)", "3D as the camera\nsees it", "3D from the side,\ncamera to the left")
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
    front, side = (panels_3d(upright, skeletons, np.array([azimuth]), NEARLY_LEVEL) for azimuth in (0.0, 90.0))
    figure = _figure(list(poses), (_screen_panels(flat, skeleton), front, side))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _screen_panels(keypoints: list[np.ndarray], skeleton: Skeleton) -> list[Panel]:
    """Panels of keypoints (1, J, 2) in one scale: the screen, and what lies beyond it within reason."""
    furthest = np.nanmax(np.abs(np.concatenate([*keypoints, np.ones_like(keypoints[0])])))
    edge = 1.06 * min(max(furthest, 1.0), WIDEST)
    bounds = np.array(((-edge, edge), (edge, -edge)))  # y points down
    return [replace(panel_2d(points, skeleton), bounds=bounds) for points in keypoints]


def _figure(names: list[str], rows: tuple[list[Panel], ...]) -> Figure:
    """All panels on one page, measured in pixels from the upper left corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = LEFT + len(names) * (PANEL + GAP), TOP + len(rows) * (PANEL + GAP) + BOTTOM
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    for row, panels in enumerate(rows):
        top = TOP + row * (PANEL + GAP)
        for column, panel in enumerate(panels):
            left = LEFT + column * (PANEL + GAP)
            box = (left / width, 1 - (top + PANEL) / height, PANEL / width, PANEL / height)
            axes = figure.add_axes(box, facecolor="none")
            draw_panel(axes, panel)
            if row == 0:
                _show_screen(axes, first=column == 0)
                axes.set_title(names[column], fontsize=12, fontweight="bold", color=INK, parse_math=False, pad=8)
        figure.text(
            20 / width, 1 - (top + PANEL / 2) / height, ROWS[row], rotation=90, ha="center", va="center", fontsize=11,
            color=INK,
        )  # fmt: skip
    draw_legend(figure, 10, (("edge of the screen (\u00b11)", "--"), (f"floor grid {rows[1][0].spacing:g} m", "-")))
    return figure


def _show_screen(axes: Axes, first: bool) -> None:
    """The screen's edge, and its units along the first panel."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor=GRID, linewidth=1.2, linestyle="--", zorder=0))
    axes.spines[:].set_color(GRID)
    ticks = (-1, 0, 1)
    axes.set(xticks=ticks, yticks=ticks, xticklabels=ticks, yticklabels=ticks if first else [])
    axes.tick_params(labelsize=8, color=GRID, labelcolor=INK, pad=2, direction="in")
