"""Time of a GIF of three panels (2D input, prediction, ground truth, the 3D turning), by this project and by mplot3d.

    python benchmarks/draw.py [--frames 100] [--width 900] [--baseline-frames 10]

The baseline is the straightforward way: for every frame a new figure with mplot3d axes, one `plot` for each bone,
`tight_layout`, and Pillow's default palette; it is measured on fewer frames in the same run.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common.draw.animation import save_animation  # noqa: E402
from common.draw.colours import COLOURS  # noqa: E402
from common.draw.scene import drawn_bones, side_of  # noqa: E402
from common.skeleton import H36M_17  # noqa: E402

TITLES = ("2D input", "Prediction", "Ground truth")


def moving_figure(frames: int) -> np.ndarray:
    """A figure of human size whose joints swing about: (frames, 17, 3), z-up metres."""
    heights = (0.95, 0.95, 0.5, 0.05, 0.95, 0.5, 0.05, 1.2, 1.45, 1.55, 1.7, 1.4, 1.15, 0.9, 1.4, 1.15, 0.9)
    sides = [{"left": -0.2, "right": 0.2, "centre": 0.0}[side_of(H36M_17, j)] for j in range(17)]
    pose = np.stack((sides, np.zeros(17), heights), -1)
    phase = np.linspace(0, 8 * np.pi, frames)[:, None, None] + np.arange(17 * 3).reshape(17, 3)
    return pose + 0.1 * np.sin(phase)


def baseline(path: Path, keypoints: np.ndarray, prediction: np.ndarray, truth: np.ndarray, width: int) -> None:
    """A new figure for each frame, with mplot3d."""
    bones = [(bone, COLOURS[side_of(H36M_17, *bone)]) for bone in drawn_bones(H36M_17)]
    images = []
    for t in range(len(truth)):
        figure = Figure(figsize=(width / 100, width / 180), dpi=100)
        canvas = FigureCanvasAgg(figure)
        flat = figure.add_subplot(1, 3, 1, title=TITLES[0], aspect="equal")
        flat.invert_yaxis()
        for bone, colour in bones:
            flat.plot(*keypoints[t, bone].T, color=colour)
        for column, poses in ((2, prediction), (3, truth)):
            solid = figure.add_subplot(1, 3, column, projection="3d", title=TITLES[column - 1])
            solid.view_init(elev=14, azim=t)
            for bone, colour in bones:
                solid.plot(*poses[t, bone].T, color=colour)
            solid.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, 2), box_aspect=(1, 1, 1))
        figure.tight_layout()
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    images[0].save(path, save_all=True, append_images=images[1:], loop=0, duration=40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--width", type=int, default=900, help="of the picture, pixels")
    parser.add_argument("--baseline-frames", type=int, default=10)
    arguments = parser.parse_args()
    truth = moving_figure(arguments.frames)
    prediction = truth + np.random.default_rng(0).normal(0, 0.02, truth.shape)
    keypoints = 500 + 300 * truth[..., [0, 2]] * (1, -1)
    errors = 1000 * np.linalg.norm(prediction - truth, axis=-1).mean(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("project", arguments.frames), ("mplot3d", arguments.baseline_frames)):
            path = Path(folder) / f"{name}.gif"
            panels = [keypoints[:count], prediction[:count], truth[:count]]
            started = time.perf_counter(), time.process_time()
            if name == "project":
                save_animation(path, panels, TITLES, H36M_17, errors=errors, width=arguments.width)
            else:
                baseline(path, *panels, arguments.width)
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            print(
                f"{name:8s} {count:4d} frames  {wall:6.2f} s  ({cpu:.2f} s of processor time)  "
                f"{1000 * wall / count:6.1f} ms per frame  {path.stat().st_size / 1024:6.0f} KiB"
            )


if __name__ == "__main__":
    main()
