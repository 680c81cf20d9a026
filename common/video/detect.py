"""2D detectors behind one small interface, and BlazePose's way through a video: several people, each followed.

A detector is a function that is given the pictures of a video one after the other. NumPy; pixels, x right, y down.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import InputError
from common.threads import cores
from common.video import blazepose
from common.video.blazepose import BlazePose, Box, Person, Region
from common.video.formats import RawKeypoints

log = logging.getLogger(__name__)

_LOOK_EVERY = 10  # frames, after which more people are looked for
_SAME = 0.15  # distance of two bodies' joints, of half the side of the smaller region, below which they are one
_COVERED = 0.5  # of the smaller of two masks, that lies on the other, from which somebody new is nobody new
_SHARED = 0.3  # joints of a body, as a share, that others have, from which it is none of its own
_MOST = 20  # people that are looked for where all are wanted
_BODY = slice(11, 29)  # of BlazePose's landmarks, without face and feet


class Detector(NamedTuple):
    """`people`: the next picture of a video -> everybody in it, each (J, 3): x, y, confidence; of BlazePose (J, 6),
    with its own 3D landmarks behind, metres.
    """

    people: Callable[[Image.Image], list[np.ndarray]]
    layout: str  # of `common.video.layouts`


def find_in_video(
    detector: Detector, images: Sequence[Image.Image], where: Path, box: Box | None = None,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> RawKeypoints:  # fmt: skip
    """Everybody's keypoints through a video, its pictures read once, one after the other.

    Raises:
        InputError: nobody is found, or there are no pictures.
    """
    people, size, start = [], None, time.perf_counter()
    for image in progress(ahead(images), len(images)):
        size = image.size
        people.append(detector.people(image))
    seconds = time.perf_counter() - start
    log.info("%s: %d pictures in %.1f s, %.1f a second", where, len(people), seconds, len(people) / max(seconds, 1e-9))
    if not any(people):
        looked = f"{len(people)} picture{'s' * (len(people) != 1)}" + (f" of {size[0]} x {size[1]}" if size else "")
        place = f" inside --box {','.join(f'{value:g}' for value in box)}" if box else ""
        raise InputError(
            f"{where}: no person found in {looked}{place}; give --box X,Y,WIDTH,HEIGHT around all that the person "
            "walks through, or another video"
        )
    return RawKeypoints(people, [str(i) for i in range(len(people))], detector.layout, size, mixed=True)


def ahead(images: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The images, each decoded in a thread while the one before it is looked at."""
    pictures = iter(images)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pictures, None)
        while (image := coming.result()) is not None:
            coming = pool.submit(next, pictures, None)
            yield image


# ------------------------------------------------------------ rtmlib


def rtmlib_detector(people: int | None = 1) -> Detector:
    """RTMPose's 17 joints of COCO by rtmlib, which fetches its weights by itself; `people`: the largest; None: all.

    Raises:
        InputError: rtmlib is not installed, or cannot load its weights.
    """
    try:
        from rtmlib import Body
    except ImportError as error:
        raise InputError(f"--detector rtmlib needs rtmlib ({error}): pip install rtmlib onnxruntime") from error
    try:
        body = Body(mode="balanced", backend="onnxruntime", device="cpu")
    except Exception as error:  # of its downloads, its archives and onnxruntime
        raise InputError(f"rtmlib cannot load its weights ({' '.join(str(error).split())[:120]})") from error

    def find(image: Image.Image) -> list[np.ndarray]:
        points, scores = body(np.ascontiguousarray(np.asarray(image)[..., ::-1]))  # as OpenCV has them: blue first
        found = list(np.concatenate((points, scores[..., None]), -1, dtype=float))
        found.sort(key=lambda pose: -np.ptp(pose[:, :2], axis=0).prod())
        return found[:people]

    return Detector(find, "coco17")


# ------------------------------------------------------------ BlazePose


def blazepose_detector(folder: Path, people: int | None = 1, box: Box | None = None) -> Detector:
    """BlazePose through a video; `people`: how many are followed at a time, the largest; None: all."""
    return Detector(Followed(blazepose.load(folder, cores()), people or _MOST, box), blazepose.LAYOUT)


class Track(NamedTuple):
    """Somebody followed by `Followed`."""

    person: Person  # as last seen
    away: int = 0  # pictures since then
    wanted: bool = True  # False: followed to be told from who is wanted


class Followed:
    """BlazePose's people, each looked for where it was in the picture before.

    The detector looks at the whole picture and at squares of it (people who are small, or one of a group, are found in
    those only) when fewer people are followed than wanted: in every picture while somebody is lost or nobody there,
    else every few pictures. Who comes near to somebody is followed, too: people who overlap are told apart by painting
    the others over. Who is lost keeps a place, so that nobody else takes it. So there may be more people than wanted;
    `common.video.follow` says who is who.
    """

    def __init__(self, network: BlazePose, most: int, box: Box | None = None):
        self.network, self.most, self.box = network, most, box
        self.room = most  # places, with those of people who were lost
        self.tracks: list[Track] = []  # those who are lost at the end
        self.since = _LOOK_EVERY  # pictures since the last close look

    def __call__(self, image: Image.Image) -> list[np.ndarray]:
        seen, lost = self._again(image)
        self.since += 1
        closely = self.since >= _LOOK_EVERY
        missing = [track for track in lost if track.wanted]
        places = self.room + len(missing) - sum(track.wanted for track in seen)
        if places > 0 and (closely or missing or not seen):
            found = self._new(image, sights(self.network, image, self.box, closely), seen)
            seen += [Track(person) for person in found[:places]]
        elif closely:
            around = [region for track in seen for region in neighbours(self.network, image, track.person.following)]
            seen += [Track(person, wanted=False) for person in self._new(image, around, seen)[: _MOST - len(seen)]]
        self.since = 0 if closely else self.since
        gone = sum(track.away > _LOOK_EVERY for track in missing)
        self.room = min(self.room + gone, 2 * self.most, _MOST)
        self.tracks = seen + [track for track in lost if track.away <= _LOOK_EVERY]
        return [np.column_stack((track.person.points, track.person.world)) for track in seen]

    def _again(self, image: Image.Image) -> tuple[list[Track], list[Track]]:
        """Everybody followed: who is seen in this picture, and who is not."""
        seen: list[Track] = []
        lost: list[Track] = []
        for number, track in enumerate(self.tracks):
            others = [one.person for one in seen + self.tracks[number + 1 :] if one.away == 0]
            near = [person for person in others if touching(person, track.person)]
            ways = ([], near) if near else ([],)
            found = [blazepose.landmarks(self.network, image, track.person.following, painted) for painted in ways]
            known = [one.person for one in seen]
            found = [one for one in found if one.score >= blazepose.SURE and len(distinct([*known, one])) > len(known)]
            if found:
                seen.append(track._replace(person=min(found, key=partial(moved, track.person)), away=0))
            else:
                lost.append(track._replace(away=track.away + 1))
        return seen, lost

    def _new(self, image: Image.Image, regions: list[Region], seen: list[Track]) -> list[Person]:
        """People in regions besides those seen, the largest first."""
        known = [track.person for track in seen]
        for _ in range(2):  # again around the landmarks: a region of theirs fits better than one of the detector's
            people = [blazepose.landmarks(self.network, image, region) for region in regions]
            people = [person for person in people if person.score >= blazepose.SURE]
            regions = [person.following for person in people]
        people = distinct(known + [one for one in people if not any(covered(one, other) for other in known)])
        return sorted(people[len(known) :], key=lambda person: -person.following.half)


def covered(one: Person, other: Person) -> bool:
    """Whether most of one body's mask lies on the other's, or the other way round."""
    mask, there = one.mask, np.asarray(blazepose.mask_in(one.region, other))
    return bool((mask & there).sum() > _COVERED * min(mask.sum(), there.sum()))


def moved(before: Person, now: Person) -> float:
    """How far the joints of a body went, pixels, on average."""
    return float(np.linalg.norm((now.points - before.points)[_BODY, :2], axis=-1).mean())


def touching(one: Person, other: Person) -> bool:
    """Whether the boxes around two people's joints overlap."""
    (low, high), (low_2, high_2) = ((p.min(0), p.max(0)) for p in (one.points[:, :2], other.points[:, :2]))
    return bool((np.minimum(high, high_2) > np.maximum(low, low_2)).all())


def neighbours(network: BlazePose, image: Image.Image, region: Region) -> list[Region]:
    """Of people whom the detector sees in the upright square around a region, but who it is of."""
    low = np.maximum(0, (region.x - region.half, region.y - region.half))
    size = np.minimum(image.size, (region.x + region.half, region.y + region.half)) - low
    if (size < 2).any():
        return []
    found = [sight.region for sight in blazepose.look(network, image, (*low, *size))]
    return [one for one in found if np.hypot(one.x - region.x, one.y - region.y) > _SAME * region.half]


def distinct(people: list[Person]) -> list[Person]:
    """Those who do not share their joints with people before them: two regions may come to hold one person, and a
    region over two people a body that is half of one and half of the other.
    """
    kept: list[Person] = []
    for person in people:
        apart = [np.linalg.norm((person.points - other.points)[_BODY, :2], axis=-1) for other in kept]
        near = _SAME * np.array([min(person.following.half, other.following.half) for other in kept])
        if not kept or (np.stack(apart) < near[:, None]).any(0).mean() < _SHARED:
            kept.append(person)
    return kept


def sights(network: BlazePose, image: Image.Image, box: Box | None, closely: bool = True) -> list[Region]:
    """Of everybody whom the detector sees in a picture (or a box of it), and in squares of it, where `closely`."""
    whole = box or (0, 0, *image.size)
    found = blazepose.look(network, image, whole)
    for square in squares(whole) if closely else ():
        x, y, side, _ = square
        for sight in blazepose.look(network, image, square):
            left, top, right, bottom = sight.box
            inside = left > x and top > y and right < x + side and bottom < y + side  # else a part of somebody
            if inside and all(blazepose.overlap(sight.box, other.box[None])[0] < 0.3 for other in found):
                found.append(sight)
    return [sight.region for sight in found]


def squares(box: Box) -> list[Box]:
    """Squares over a box, each over half of the next: of its shorter side, if it is oblong, and of half of that."""
    x, y, width, height = box
    short, long = min(width, height), max(width, height)
    sides = [short] * (long > 1.2 * short) + [short / 2]
    found = []
    for side in sides:
        columns, rows = (max(1, round(2 * length / side) - 1) for length in (width, height))
        for row in range(rows):
            for column in range(columns):
                left = x + (width - side) * (column / (columns - 1) if columns > 1 else 0.5)
                top = y + (height - side) * (row / (rows - 1) if rows > 1 else 0.5)
                found.append((left, top, side, side))
    return found
