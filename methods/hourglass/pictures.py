"""Pictures of poses found in images: the 2D pose over each image, the 3D pose beside it, turning films.

Also the reading of images and the writing of results for `demo.py`. MPII's 16 joints (COCO's 17 in 2D); see
`common.draw.turntable` for the drawing.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common.draw import page, turntable
from common.draw.colours import PAPER
from common.draw.gif import save_picture
from common.errors import InputError
from common.files.npz import save_npz
from common.images.crop import open_rgb
from common.images.decode import mpii_to_h36m, pixel_shift
from common.images.people import Crops
from common.images.scores import at_published_size
from common.skeleton import COCO_17, H36M_17, MPII_16, Skeleton
from common.video.find import Found
from common.video.frames import Pictures

log = logging.getLogger(__name__)

HEIGHT = turntable.PANEL[1] + turntable.CAPTION  # pixels of a picture, as of the 3D pose beside it
LONGEST = 1600  # pixels, of its width
TURNS = (0, 60)  # degrees, of the 3D poses beside an image
SAMPLES = 8  # of a sheet


def skeleton_of(joints: int) -> Skeleton:
    """The joints of a network with so many."""
    return COCO_17 if joints == COCO_17.num_joints else MPII_16


def beside(image: Image.Image, points: np.ndarray, pose: np.ndarray | None) -> Image.Image:
    """One picture: the 2D pose (J, 2), pixels, over the image, and the 3D pose (J, 3) from the front and turned.

    `pose`: camera frame, any unit, MPII's 16 or Human3.6M's 17 joints; None: the 2D pose alone.
    """
    bodies = []
    if pose is not None:
        bodies = list(turntable.turned(pose, TURNS, H36M_17 if len(pose) == H36M_17.num_joints else MPII_16))
    scale = min(HEIGHT / image.height, LONGEST / image.width)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    shown = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    return _side_by_side([turntable.overlay(scale * points, shown, skeleton_of(len(points))), *bodies])


def _side_by_side(pictures: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), PAPER)
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width
    return sheet


def save_sheet(path: Path, crops: Crops, table: Mapping[str, Tensor], refine: str, count: int = SAMPLES) -> Path:
    """Predictions (`evaluation.evaluate`) over `count` images of the set, evenly spread, two in a row, as PNG."""
    rows = np.unique(np.linspace(0, len(crops) - 1, count).round().astype(int))
    unit = crops.options.input_size[1] / crops.options.map_size[1]  # image pixels
    panels = []
    for row in rows:
        image = Image.fromarray(crops[int(row)]["image"].numpy())
        points = unit * (table["points"][row].numpy() + pixel_shift(refine))
        panel = beside(image, points, table["poses"][row].numpy() if "poses" in table else None)
        if "mpjpe" in table:
            text = f"MPJPE {float(table['mpjpe'][row]):.0f} mm"
            ImageDraw.Draw(panel).text((panel.width - 8, 4), text, fill=(90, 90, 90), anchor="ra")
        panels.append(panel)
    columns = 2
    wide, high = max(p.width for p in panels), max(p.height for p in panels)
    sheet = Image.new("RGB", (columns * wide, -(-len(panels) // columns) * high), PAPER)
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i % columns * wide, i // columns * high))
    return save_picture(path, sheet)


def save_test_page(path: Path, crops: Crops, table: Mapping[str, Tensor], points: np.ndarray, about: str) -> Path:
    """The page for the browser of a scored set (`evaluation.evaluate`): an image a frame, with what was found in 2D and
    3D and the truth; `points` (N, J, 2): image pixels.
    """

    def image(row: int) -> Image.Image:
        part = int(np.searchsorted(crops.starts, row, side="right")) - 1
        return crops.sets[part].open_image(row - int(crops.starts[part]))

    count = min(len(crops), page.LONGEST)
    truth = np.concatenate([np.where(p.annotated[..., None], p.joints, np.nan) for p in crops.sets])[:count]
    poses, errors = {}, None
    if "poses" in table:
        poses = {"hourglass": table["poses"][:count] / 1000, "truth": table["gt_3d"][:count] / 1000}
        errors = {"hourglass": table["mpjpe"][:count]}
    return page.write_page(
        path, poses, H36M_17 if poses else skeleton_of(points.shape[1]), image=page.Lazy(count, image), fps=1,
        keypoints={"hourglass": points[:count], "truth": truth}, skeleton_2d=skeleton_of(points.shape[1]),
        frame="camera", errors=errors, metric="MPJPE, 15 bones' sum 4000 mm", title=f"hourglass: {count:,} images",
        flat_title="2D found and true", about=about,
    )  # fmt: skip


# ------------------------------------------------------------ what was found in single images


def save_pose(folder: Path, name: str, image: Image.Image, found: Found) -> None:
    """NAME_pose.png, and with depths NAME_turning.gif, of one image."""
    pose = None if found.poses is None else found.poses[0]
    save_picture(folder / f"{name}_pose.png", beside(image, found.points[0], pose))
    if pose is not None:
        turntable.save_turning_gif(folder / f"{name}_turning.gif", pose, skeleton_of(len(pose)))


def save_poses(path: Path, found: Mapping[Path, Found]) -> None:
    """The poses of N images as npz: files (N,), keypoints (N, J, 2) pixels, peak (N, J); with depths poses (N, 16, 3),
    fractions of the window, and poses_h36m_mm (N, 17, 3), Human3.6M's order, at the published size.
    """
    points, peaks, poses = zip(*found.values(), strict=True)
    arrays = {"files": np.array([str(file) for file in found])}
    arrays |= {"keypoints": np.concatenate(points), "peak": np.concatenate(peaks)}
    if poses[0] is not None:
        arrays["poses"] = np.concatenate(poses)
        arrays["poses_h36m_mm"] = at_published_size(mpii_to_h36m(torch.from_numpy(arrays["poses"]))).numpy()
    save_npz(path, **arrays)


def save_page(path: Path, found: Mapping[Path, Found]) -> Path:
    """The page for the browser: an image a frame, with its 2D pose and its 3D pose."""
    points, _, poses = zip(*list(found.values())[: page.LONGEST], strict=True)
    flat = skeleton_of(points[0].shape[1])
    return page.write_page(
        path, {} if poses[0] is None else {"hourglass": np.concatenate(poses)}, flat, np.concatenate(points),
        Pictures(list(found)[: page.LONGEST]), fps=1, frame="camera", unit=None,
        flat_title="2D pose found", title=f"hourglass: {len(found):,} image{'s' * (len(found) > 1)}",
        about="one image a frame; depths in the scale of the image, no truth to compare with",
    )  # fmt: skip


# ------------------------------------------------------------ images to look at


def image_files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder in the order of their names, without hidden ones.

    Raises:
        InputError: there is none.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist (looked for {path.absolute()}); give an image or a folder of images")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise InputError(f"{path} is an empty folder: expected images")
    return files


def readable_images(files: list[Path]) -> Iterator[tuple[Path, Image.Image]]:
    """Each image, RGB and upright, decoded; what is none is named in a warning and passed over."""
    for file in files:
        try:
            image = open_rgb(file)
            try:
                image.load()
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise InputError(f"{file} is truncated or damaged ({' '.join(str(error).split())[:120]})") from error
            yield file, image
        except InputError as error:
            log.warning("skipped: %s", error)


def picture_names(files: list[Path]) -> dict[Path, str]:
    """A name for each file's results: without the ending, where that tells them apart."""
    stems = [file.stem for file in files]
    return {file: file.stem if stems.count(file.stem) == 1 else file.name.replace(".", "_") for file in files}
