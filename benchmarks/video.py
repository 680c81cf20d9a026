"""Speed and memory of demo.py's way from a video to poses: decoding, BlazePose, lifting, writing.

    python benchmarks/video.py VIDEO [--people 1] [--repeat 3]

`--repeat` shows the video so many times as one long one. The lifter is an mlp with random weights: lifting takes as
long as with trained ones. Printed: frames a second of each part alone and of all together, and the memory in use after
the first and after the last time. The aims, on 2 cores, one person, 1,080 x 1,920: 12 frames a second, lifting 1,000.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

import models  # noqa: E402
from benchmarks import machine  # noqa: E402
from common.files.npz import save_npz  # noqa: E402
from common.run.memory import keep_freed_memory  # noqa: E402
from common.video import detect, detector_files, frames  # noqa: E402
from common.video.frames import Pictures  # noqa: E402
from common.video.read import read_keypoints  # noqa: E402
from methods import lifters  # noqa: E402
from methods.adversarial.checkpoint import SavedNetwork  # noqa: E402
from methods.detectors import people  # noqa: E402

LIFTED = 20_000  # frames, over which lifting alone is timed


class Repeated:
    """A video several times over, without its being kept; `peaks`: MiB in use at each end."""

    def __init__(self, video: Pictures, times: int):
        self.video, self.times, self.peaks = video, times, []

    def __len__(self) -> int:
        return self.times * len(self.video)

    def __iter__(self) -> Iterator[Image.Image]:
        for _ in range(self.times):
            yield from self.video
            self.peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--people", type=people, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--detector-dir", type=Path, default=detector_files.FOLDER)
    args = parser.parse_args()
    if args.video is None:
        print("left out: give a VIDEO")
        return
    keep_freed_memory()  # as every script does
    network = models.create("mlp").eval()
    saved = lifters.SavedLifter("mlp", SavedNetwork("mlp", {}, network.state_dict()))
    print(machine.describe(torch.device("cpu")))

    def lift(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return lifters.lift(saved, network, torch.from_numpy(points), size).numpy()

    detector = detect.blazepose_detector(args.detector_dir, args.people)
    with frames.opened(args.video) as video, tempfile.TemporaryDirectory() as folder:
        size = video[0].size
        start = time.perf_counter()
        count = sum(1 for _ in video)
        decoding = count / (time.perf_counter() - start)
        long = Repeated(video, args.repeat)
        start = time.perf_counter()
        raw = detect.find_in_video(detector, long, args.video)
        finding = len(long) / (time.perf_counter() - start)
        found = read_keypoints(args.video, raw=raw)
        poses = lift(found.points, size)
        save_npz(Path(folder) / "poses.npz", poses=poses, keypoints=found.points)
        everything = len(long) / (time.perf_counter() - start)
    many = np.resize(found.points, (LIFTED, *found.points.shape[1:]))
    start = time.perf_counter()
    lift(many, size)
    lifting = LIFTED / (time.perf_counter() - start)
    print(f"{args.video}: {count} frames of {size[0]} x {size[1]}, {args.repeat} times; {len(found.people)} people")
    for name, rate in (
        ("decoding alone", decoding), ("decoding and detector", finding), ("lifting alone", lifting),
        ("from file to npz", everything),
    ):  # fmt: skip
        print(f"{name:<24}{rate:10,.1f} frames a second")
    print(f"memory at most {long.peaks[0]:,.0f} MiB after the first time, {long.peaks[-1]:,.0f} MiB after the last")


if __name__ == "__main__":
    main()
