"""Distance of BlazePose as run here from mediapipe's own `Pose`, on the same video, in pixels.

    python benchmarks/mediapipe_pose.py VIDEO [VIDEO ...]      with mediapipe 0.10.21 for this Python
    python benchmarks/mediapipe_pose.py VIDEO --python FILE    with that of another environment (it needs NumPy < 2)

Both follow one person. Frames in which both find somebody, 33 landmarks: median and 90 % of the distances; where the
middles of the bodies are further apart than half a body both follow different people: counted, and left out.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from common.video import detect, detector_files, follow, frames  # noqa: E402

# Run by the other interpreter: pictures come in as raw RGB; landmarks go out, NaN where nobody is found.
THEIRS = """
import sys
import numpy as np
from mediapipe import solutions
width, height = map(int, sys.argv[1:3])
found = []
with solutions.pose.Pose(model_complexity=1, smooth_landmarks=False) as pose:
    while len(data := sys.stdin.buffer.read(3 * width * height)):
        marks = pose.process(np.frombuffer(data, np.uint8).reshape(height, width, 3)).pose_landmarks
        points = [(m.x * width, m.y * height) for m in marks.landmark] if marks else [(np.nan, np.nan)] * 33
        found.append(points)
np.save(sys.argv[3], found)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has mediapipe")
    parser.add_argument("--detector-dir", type=Path, default=detector_files.FOLDER)
    args = parser.parse_args()
    if not args.videos:
        print("left out: give a VIDEO")
        return
    if subprocess.run([args.python, "-c", "import mediapipe.python.solutions.pose"], capture_output=True).returncode:
        print(f"left out: {args.python} has no mediapipe with solutions.pose (0.10.21)")
        return
    for video in args.videos:
        ours, theirs = both(video, args)
        middle = np.linalg.norm((ours - theirs).mean(1), axis=-1)
        size = np.linalg.norm(np.ptp(ours, axis=1), axis=-1)
        found = np.isfinite(middle)
        same = found & (middle < size / 2)
        away = np.linalg.norm(ours - theirs, axis=-1)[same]
        print(
            f"{video}: {same.sum()} of {len(ours)} frames compared ({(found & ~same).sum()} of other people); median "
            f"{np.median(away):.1f} pixels, 90 % within {np.quantile(away, 0.9):.1f}"
        )


def both(video: Path, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (T, 33, 2), pixels, of the person followed, by this framework and by mediapipe; NaN where nobody."""
    detector = detect.blazepose_detector(args.detector_dir, 1)
    with frames.opened(video) as images, tempfile.TemporaryDirectory() as folder:
        size, clock, file = images[0].size, images.times, f"{folder}/theirs.npy"
        command = [args.python, "-c", THEIRS, *map(str, size), file]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        poses = []
        for image in images:
            other.stdin.write(np.asarray(image).tobytes())
            poses.append(detector.people(image))
        other.stdin.close()
        if other.wait():
            raise SystemExit(f"mediapipe's Pose ended with status {other.returncode}")
        theirs = np.load(file)
    ours = np.full((len(poses), 33, 2), np.nan)
    person = follow.follow(poses, clock, mixed=True)[0]
    ours[person.rows] = person.points[..., :2]
    return ours, theirs


if __name__ == "__main__":
    main()
