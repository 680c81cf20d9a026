"""Multi-view folders of the encoder-decoder: the views to train on, and those to score on.

Rhodin, Salzmann, Fua, "Unsupervised geometry-aware representation for 3D human pose estimation" (ECCV 2018). Where no
folder is given, a small synthetic one is made once.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError
from common.h36m import SUBJECTS, TEST_SUBJECTS
from common.multiview.batches import Groups, view_groups
from common.multiview.labels import IMAGES, LABELS_FILE, Labels, MultiviewImages, read_labels
from common.multiview.write import VERSION, read_motion, write_multiview
from common.run.run import Run
from common.synthetic.dataset import ensure
from methods.encoder_decoder.options import SYNTHETIC_TRAIN, numbers

log = logging.getLogger(__name__)

HELD_OUT = tuple(int(subject.removeprefix("S")) for subject in TEST_SUBJECTS)


@dataclass(frozen=True)
class Views:
    """Some groups of a multi-view folder. labels: of the whole folder, on the run's device; groups: those to use."""

    labels: Labels
    images: MultiviewImages
    groups: Groups

    def rows(self, every_nth: int = 1) -> np.ndarray:
        """Rows of the labels, (n,), in the order of the groups."""
        rows = self.groups.rows[::every_nth]
        return rows[rows >= 0]

    def examples(self, count: int) -> Tensor:
        """Rows of the first two views of `count` groups, (2 count,), spread over those whose images are read."""
        pairs = self.groups.rows[:, :2]
        pairs = pairs[np.isin(pairs, self.images.rows).all(1)]
        chosen = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(np.int64)
        return torch.from_numpy(pairs[chosen].flatten())


def find_folder(args: Any, run: Run) -> Path:
    """The folder to train on; without --data_dir the synthetic one, made on first use. Fills in what depends on it."""
    synthetic = args.data_dir is None
    defaults = {
        "every_nth_frame": 1 if synthetic else 100, "actor_subset": SYNTHETIC_TRAIN if synthetic else "1"
    }  # fmt: skip
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if not synthetic:
        return args.data_dir
    folder = args.synthetic_dir / f"multiview_{args.input_dimension}x{args.synthetic_frames}_v{VERSION}"
    if run.is_main and not (folder / LABELS_FILE).is_file():
        log.info("no --data_dir: making a synthetic multi-view folder, %s, once (some minutes)", folder)
        ensure(args.synthetic_dir, None)
        poses = read_motion(args.synthetic_dir, "synthetic", ",".join(SUBJECTS))
        write_multiview(folder, poses, args.input_dimension, args.synthetic_frames, progress=drawing(run))
    run.average(torch.zeros(1))  # the other processes wait here
    return folder


def drawing(run: Run):
    """A progress bar on a terminal for `write_multiview`."""
    return lambda items, total: run.progress(items, total, "drawing")


def load_train(folder: Path, args: Any, run: Run, needs: Sequence[str] = (), keys: Sequence[str] = IMAGES) -> Views:
    """The training subjects' views.

    Raises:
        InputError: among them are subjects to score on.
    """
    labels = read_labels(folder, needs)
    groups = view_groups(labels, args.use_cam_batches, _training_subjects(args, labels), _cameras(args))
    step = 1 if args.use_subject_batches else args.every_nth_frame  # the other frame may be any
    rows = groups.rows[::step]
    return _views(folder, args, run, labels, groups, rows[rows >= 0], keys)


def _training_subjects(args: Any, labels: Labels) -> tuple[int, ...] | None:
    """Those of --actor_subset, None for all there are; "all" leaves out those to score on in the same folder."""
    subjects = numbers(args.actor_subset, "actor_subset")
    if args.test_folder:
        return subjects
    there = set(labels.subject.tolist())
    scored = _scored_subjects(args, labels)
    scored = there if scored is None else set(scored)
    both = sorted((there - scored or there if subjects is None else set(subjects)) & scored)
    if both:
        raise InputError(
            f"--actor_subset {args.actor_subset} trains on subjects to score on: {', '.join(map(str, both))}; leave "
            "them out, or name others with --test_subjects"
        )
    return tuple(sorted(there - scored)) if subjects is None else subjects


def _scored_subjects(args: Any, labels: Labels) -> tuple[int, ...] | None:
    """Those of --test_subjects, None for all there are; by default the published ones as far as they are there."""
    if args.test_subjects is not None:
        return numbers(args.test_subjects, "test_subjects")
    there = set(labels.subject.tolist())
    return tuple(there) if args.test_folder else tuple(there & set(HELD_OUT))


def load_test(folder: Path, args: Any, run: Run, needs: Sequence[str] = (), keys: Sequence[str] = IMAGES):
    """Every n-th frame of the subjects to score on, those seen by all cameras; None, with a warning, without any."""
    folder = args.test_folder or folder
    labels = read_labels(folder, needs)
    subjects = _scored_subjects(args, labels)
    if subjects == ():
        log.warning("%s has no subject 9 or 11: nothing to score on without --test_subjects or --test_folder", folder)
        return None
    groups = view_groups(labels, 0, subjects, _cameras(args))
    groups = view_groups(labels, int(groups.count.max()), subjects, _cameras(args))
    if groups.rows.shape[1] < 2:
        raise InputError(f"{folder}: every frame is seen by one camera only; expected two or more to compare views")
    kept = slice(None, None, args.every_nth_frame)
    groups = Groups(groups.rows[kept], groups.count[kept], groups.first[kept], groups.last[kept], groups.cameras)
    return _views(folder, args, run, labels, groups, groups.rows.reshape(-1), keys)


def _cameras(args: Any) -> tuple[int, ...] | None:
    return numbers(args.active_cameras, "active_cameras")


def _views(
    folder: Path, args: Any, run: Run, labels: Labels, groups: Groups, rows: np.ndarray, keys: Sequence[str]
) -> Views:
    images = MultiviewImages(folder, labels, keys, rows, args.input_dimension)
    if len(images.rows) * len(keys) * 3 * args.input_dimension**2 <= args.preload_gb * 1e9:
        images.preload(run.device)
    return Views(_fixed_root(labels).to(run.device), images, groups)


def _fixed_root(labels: Labels) -> Labels:
    """Where the root is always 0, its deviation, too: with a filler such as 1 a head's noise would move the root."""
    if labels.std is None or labels.pose[:, :3].abs().max() > 0:
        return labels
    keep = torch.arange(labels.pose.shape[1]) >= 3
    return replace(labels, mean=labels.mean * keep, std=labels.std * keep)
