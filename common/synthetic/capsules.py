"""Pictures of tapered capsules: rasterised row by row into a z-buffer, lit, with smooth edges (NumPy, CPU).

A capsule is the hull of two spheres. Frame: pixels, x right, y down, z away from the viewer in the same unit (weak
perspective: what is one pixel long is one pixel deep); pixel centres are whole numbers. All capsules of a picture are
treated at once: spans of rows first, then the pixels of all spans, so that no pixel outside of a capsule is touched.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy import ndarray as Array

from common.camera import project

SAMPLES = 2  # per pixel and axis: the edges are averaged from SAMPLES ** 2 of them
FAR = np.float32(1e6)  # depth where nothing was hit
_PIECE = 1 << 14  # samples treated at a time
_TAPER = 0.95  # largest difference of the radii, as a share of the length seen: keeps one sphere out of the other


@dataclass(frozen=True)
class Capsules:
    """P capsules in pixel space and their paint; every array is float32."""

    ends: Array  # (P, 2, 3)
    radii: Array  # (P, 2)
    texture: Array  # (P, 2, 3): the texture runs from 0 at the first point to 1 at the second
    colours: Array  # (P, 2, 3), 0..1: below and above `split`, or the two colours of the stripes
    split: Array  # (P,), texture coordinate
    stripes: Array  # (P,), per unit of the texture; 0 for none

    def __add__(self, other: "Capsules") -> "Capsules":
        names = self.__dataclass_fields__
        return Capsules(*(np.concatenate((getattr(self, name), getattr(other, name))) for name in names))


@dataclass(frozen=True)
class View:
    """How camera-frame points (x right, y down, z forward, metres) come onto a picture."""

    intrinsics: Array  # (9,) fx, fy, cx, cy in pixels, distortion (see common.camera)
    matrix: Array  # (2, 3): pixels of the camera's image, as columns (x, y, 1) -> pixels of the picture
    distance: float  # metres: depth 0 of the picture, where `focal` pixels are one metre over `distance`

    @property
    def focal(self) -> float:
        """Focal length in pixels of the picture."""
        determinant = np.linalg.det(self.matrix[:, :2])
        return float(np.sqrt(np.abs(determinant * self.intrinsics[0] * self.intrinsics[1])))

    def project(self, points: Array) -> Array:
        """Points (..., 3) -> x, y and depth in pixels of the picture, (..., 3) float32."""
        points = torch.as_tensor(points, dtype=torch.float32)
        pixels = project(points, torch.as_tensor(self.intrinsics, dtype=torch.float32)).numpy()
        placed = pixels @ self.matrix[:, :2].T.astype(np.float32) + self.matrix[:, 2].astype(np.float32)
        depth = (points[..., 2:].numpy() - self.distance) * (self.focal / self.distance)
        return np.concatenate((placed, depth), -1).astype(np.float32)

    def scale(self, depth: Array) -> Array:
        """Pixels per metre at depths (...), metres from the camera."""
        return self.focal / depth


@dataclass(frozen=True)
class Light:
    """Light of one picture: `direction` (3,) points to the lamp, a unit vector in the picture's frame."""

    direction: Array
    ambient: float = 0.6
    diffuse: float = 0.7


@dataclass(frozen=True)
class Layer:
    """The capsules as drawn on a picture: arrays of the box (h, w) that holds them all."""

    colour: Array  # (h, w, 3) float32, 0..255, times the cover
    cover: Array  # (h, w) float32, 0..1
    depth: Array  # (S * h, S * w) float32, pixels, of every sample (S = SAMPLES); FAR where there is nothing
    box: tuple[slice, slice]  # rows and columns of the picture
    size: tuple[int, int]  # height, width of the picture

    def over(self, background: Array) -> Array:
        """The picture (H, W, 3) uint8 with this layer over `background` (H, W, 3) uint8."""
        picture = background.copy()
        mixed = picture[self.box] * (1 - self.cover)[..., None]
        mixed += self.colour
        mixed += np.float32(0.5)
        picture[self.box] = mixed.astype(np.uint8)
        return picture

    def depth_at(self, points: Array) -> Array:
        """Depth (K,) of the sample under points (K, 2), pixels; NaN outside of the picture."""
        column, row = np.moveaxis(np.floor((points + 0.5) * SAMPLES).astype(int), -1, 0)
        height, width = (SAMPLES * side for side in self.size)
        shown = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        row, column = (index - SAMPLES * part.start for index, part in zip((row, column), self.box, strict=True))
        height, width = self.depth.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = self.depth[row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.where(shown, np.where(inside, found, FAR), np.nan)


def draw(capsules: Capsules, light: Light, height: int, width: int) -> Layer:
    """Render capsules into a layer of a picture (height, width)."""
    low = np.floor((capsules.ends[..., :2] - capsules.radii[..., None]).min((0, 1)))
    high = np.ceil((capsules.ends[..., :2] + capsules.radii[..., None]).max((0, 1))) + 1
    left, top = (int(value) for value in low.clip(0, (width - 1, height - 1)))
    right, bottom = (int(value) for value in high.clip((left + 1, top + 1), (width, height)))
    corner = np.array((left, top, 0), np.float32)
    moved = replace(capsules, ends=capsules.ends - corner, texture=capsules.texture - corner)
    colour, cover, depth = _draw_box(moved, light, bottom - top, right - left)
    return Layer(colour, cover, depth, np.s_[top:bottom, left:right], (height, width))


def _draw_box(capsules: Capsules, light: Light, height: int, width: int) -> tuple[Array, Array, Array]:
    """Colour, cover and depth of a picture (height, width).

    The nearest capsule is found for every sample. A pixel whose samples all see the same one is lit once, the others
    sample by sample.
    """
    shape = _Shape.of(capsules)
    depth, nearest = _nearest(shape, height * SAMPLES, width * SAMPLES)
    sums = np.zeros((4, height * width), np.float32)
    block = nearest.reshape(height, SAMPLES, width, SAMPLES)
    offsets = [(down, right) for down in range(SAMPLES) for right in range(SAMPLES)]
    planes = [np.ascontiguousarray(block[:, down, :, right]).ravel() for down, right in offsets]
    whole = planes[0] >= 0
    for plane in planes[1:]:
        whole &= plane == planes[0]

    pixel = np.flatnonzero(whole)
    row, column = (number * SAMPLES + (SAMPLES - 1) / 2 for number in np.divmod(pixel, width))
    _add(sums, pixel, 1.0, shape, capsules, light, planes[0][pixel], column, row)
    rest = [np.flatnonzero((plane >= 0) & ~whole) for plane in planes]
    pixel, owner = np.concatenate(rest), np.concatenate([plane[p] for plane, p in zip(planes, rest, strict=True)])
    down, right = np.repeat(np.array(offsets), [len(p) for p in rest], 0).T
    row, column = np.divmod(pixel, width)
    row, column = row * SAMPLES + down, column * SAMPLES + right
    _add(sums, pixel, 1 / SAMPLES**2, shape, capsules, light, owner, column, row)
    colour, cover = sums[:3].T.reshape(height, width, 3), sums[3].reshape(height, width)
    return colour, cover, depth.reshape(height * SAMPLES, width * SAMPLES)


def _add(sums: Array, pixel: Array, weight: float, shape, capsules, light, owner, column, row) -> None:
    """Add light and cover of samples (K,) to `sums` (4, pixels), in place."""
    for part in _pieces(len(pixel)):
        place, x, y = pixel[part], column[part].astype(np.float32), row[part].astype(np.float32)
        colour = _shade(shape, capsules, light, owner[part].astype(np.intp), x, y)
        first = place.min()
        place = place - first
        for total, channel in zip(sums, (*colour, np.ones(len(place))), strict=True):
            share = np.bincount(place, channel)
            total[first : first + len(share)] += share * weight


def _pieces(count: int) -> Iterator[slice]:
    """Slices of _PIECE: temporaries of this size stay in the cache and off the system's page tables."""
    return (slice(start, start + _PIECE) for start in range(0, count, _PIECE))


@dataclass(frozen=True)
class _Shape:
    """P capsules in the frame of the samples, each (P,) float32; a: first end, d: second end minus first."""

    ax: Array
    ay: Array
    az: Array
    dx: Array
    dy: Array
    dz: Array
    ra: Array
    dr: Array
    q2: Array  # of the quadratic in `_surface`
    inverse: Array  # 1 / q2
    lean: Array

    @classmethod
    def of(cls, capsules: Capsules) -> "_Shape":
        ends, radii = (np.asarray(values, np.float32) * SAMPLES for values in (capsules.ends, capsules.radii))
        (ax, ay, az), (dx, dy, dz) = ends[:, 0].T, (ends[:, 1] - ends[:, 0]).T
        dx = np.where(np.hypot(dx, dy) < 0.5, np.float32(0.5), dx)  # one that is seen end on still has an axis
        limit = _TAPER * np.hypot(dx, dy)
        mean, dr = radii.mean(1), (radii[:, 1] - radii[:, 0]).clip(-limit, limit)
        q2 = dr * dr - dx * dx - dy * dy
        lean = dz / np.sqrt(dz * dz - q2)
        # the centre of the first sample lies half a sample inside of the first pixel
        middle = np.float32((SAMPLES - 1) / 2)
        return cls(ax + middle, ay + middle, az, dx, dy, dz, mean - dr / 2, dr, q2, 1 / q2, lean)


def _surface(c0, c1, wx, along, q2, inverse, lean):
    """Where the line of sight meets a capsule first: t on its axis, and how far in front of the axis.

    The depth over a pixel p is the smallest z(t) - sqrt(Q(t)) over the spheres t in [0, 1] of the capsule, where
    Q(t) = r(t)^2 - |p - xy(t)|^2 = q0 + 2 q1 t + q2 t^2; it has a closed form, because Q is concave. c0 and c1 are the
    parts of q0 and q1 that a row shares, wx is p - a in x.
    """
    q0 = c0 - wx * wx
    q1 = c1 + wx * along
    t = q1 * q1
    t -= q0 * q2
    np.sqrt(np.maximum(t, 0, out=t), out=t)
    t *= lean
    t -= q1
    t *= inverse
    t = np.minimum(np.maximum(t, 0, out=t), 1, out=t)
    q1 += q1
    q1 += q2 * t
    q1 *= t
    q1 += q0
    return t, np.sqrt(np.maximum(q1, 0, out=q1), out=q1)


def _nearest(shape: _Shape, height: int, width: int) -> tuple[Array, Array]:
    """Z-buffer: depth (height * width,) float32 in pixels and nearest capsule (height * width,) int16, -1 for none."""
    depth = np.full(height * width, FAR, np.float32)
    nearest = np.full(height * width, -1, np.int16)
    owner, row, first, count = _spans(shape, height, width)
    wy = row.astype(np.float32) - shape.ay[owner]
    ra, dr, dy = shape.ra[owner], shape.dr[owner], shape.dy[owner]
    per_row = [ra * ra - wy * wy, ra * dr + wy * dy]
    per_row += [values[owner] for values in (shape.ax, shape.dx, shape.q2, shape.inverse, shape.lean)]
    per_row += [values[owner] / np.float32(SAMPLES) for values in (shape.az, shape.dz)]
    ends = np.cumsum(count)
    cuts = np.searchsorted(ends, np.arange(_PIECE, ends[-1] + _PIECE, _PIECE)) if len(ends) else ()
    start = 0
    for stop in cuts:
        part, start = slice(start, stop + 1), stop + 1
        if part.start >= len(count):
            break
        number = count[part]
        before = np.cumsum(number) - number
        column = np.arange(number.sum()) + np.repeat(first[part] - before, number)
        sample = column + np.repeat(row[part] * width, number)  # int64: minimum.at is slow with anything else
        c0, c1, ax, along, q2, inverse, lean, az, dz = (np.repeat(values[part], number) for values in per_row)
        t, front = _surface(c0, c1, column.astype(np.float32) - ax, along, q2, inverse, lean)
        t *= dz
        t += az
        front *= np.float32(1 / SAMPLES)
        t -= front
        np.minimum.at(depth, sample, t)
        won = np.flatnonzero(t == depth[sample])
        nearest[sample[won]] = np.repeat(owner[part].astype(np.int16), number)[won]
    return depth, nearest


def _spans(shape: _Shape, height: int, width: int) -> tuple[Array, Array, Array, Array]:
    """The rows that capsules cover: owner, row, first column and number of columns, each (R,) int.

    The outline of a capsule is two circles and their outer tangents: a row ends on one of the four.
    """
    rb = shape.ra + shape.dr
    by = shape.ay + shape.dy
    top = np.ceil(np.minimum(shape.ay - shape.ra, by - rb)).clip(0, height).astype(int)
    bottom = np.floor(np.maximum(shape.ay + shape.ra, by + rb)).clip(-1, height - 1).astype(int)
    rows = np.maximum(bottom - top + 1, 0)
    owner = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows - top, rows)
    edges = [_chord(x[owner], y[owner], r[owner], row) for x, y, r in _circles(shape, rb, by)]
    edges += [_crossing(*(part[owner] for part in tangent), row) for tangent in _tangents(shape, rb)]
    low = np.min([edge[0] for edge in edges], 0)
    high = np.max([edge[1] for edge in edges], 0)
    first = np.ceil(np.clip(low, 0, width)).astype(int)
    count = np.maximum(np.floor(np.clip(high, -1, width - 1)).astype(int) - first + 1, 0)
    kept = count > 0
    return owner[kept], row[kept], first[kept], count[kept]


def _circles(shape: _Shape, rb: Array, by: Array) -> tuple[tuple[Array, Array, Array], ...]:
    return (shape.ax, shape.ay, shape.ra), (shape.ax + shape.dx, by, rb)


def _chord(x: Array, y: Array, radius: Array, row: Array) -> tuple[Array, Array]:
    """Left and right end of a circle on a row; an empty interval where it does not reach it."""
    square = radius**2 - (row - y) ** 2
    half = np.sqrt(np.maximum(square, 0))
    return np.where(square >= 0, x - half, np.inf), np.where(square >= 0, x + half, -np.inf)


def _tangents(shape: _Shape, rb: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Both outer tangents as segments x0, y0, x1, y1."""
    length = np.hypot(shape.dx, shape.dy)
    ux, uy, sine = shape.dx / length, shape.dy / length, -shape.dr / length
    cosine = np.sqrt(1 - sine**2)
    for side in (1, -1):
        nx, ny = sine * ux - side * cosine * uy, sine * uy + side * cosine * ux
        x, y = shape.ax + shape.ra * nx, shape.ay + shape.ra * ny
        yield x, y, shape.ax + shape.dx + rb * nx, shape.ay + shape.dy + rb * ny


def _crossing(x0: Array, y0: Array, x1: Array, y1: Array, row: Array) -> tuple[Array, Array]:
    """Where a segment crosses a row, twice; an empty interval where it does not."""
    rise = y1 - y0
    share = (row - y0) / np.where(rise == 0, 1, rise)
    x, crosses = x0 + share * (x1 - x0), (share >= 0) & (share <= 1) & (rise != 0)
    return np.where(crosses, x, np.inf), np.where(crosses, x, -np.inf)


def _shade(shape: _Shape, capsules: Capsules, light: Light, capsule: Array, x: Array, y: Array) -> list[Array]:
    """Colour (3, K), 0..255, of the samples (x, y) (K,) that see `capsule` (K,): paint times light."""
    ax, ay, dx, dy, ra, dr = (v.take(capsule) for v in (shape.ax, shape.ay, shape.dx, shape.dy, shape.ra, shape.dr))
    wx, wy = x - ax, y - ay
    rest = ra * ra - wy * wy, ra * dr + wy * dy
    t, front = _surface(*rest, wx, dx, *(v.take(capsule) for v in (shape.q2, shape.inverse, shape.lean)))
    radius = ra + t * dr
    right, down, near = light.direction.astype(np.float32)
    lit = (wx - t * dx) * right + (wy - t * dy) * down - front * near
    lit = np.maximum(lit / radius, 0) * np.float32(light.diffuse) + np.float32(light.ambient)
    lit *= np.float32(0.75) + np.float32(0.25) * front / radius  # darker towards the outline
    place = _texture(shape, capsules, capsule, x, y, t, front)
    stripes = capsules.stripes.take(capsule)
    turns = place * stripes
    second = np.where(stripes > 0, turns - np.floor(turns) > 0.5, place > capsules.split.take(capsule))
    paint = (capsules.colours * np.float32(255)).reshape(-1, 3).T
    shown = 2 * capsule + second
    return [np.minimum(channel.take(shown) * lit, 255) for channel in paint]


def _texture(shape: _Shape, capsules: Capsules, capsule: Array, x: Array, y: Array, t: Array, front: Array) -> Array:
    """Texture coordinate (K,) of the points seen."""
    texture = capsules.texture * np.float32(SAMPLES)
    along = texture[:, 1] - texture[:, 0]
    along /= np.maximum((along * along).sum(-1, keepdims=True), np.float32(1e-6))
    middle = np.float32((SAMPLES - 1) / 2)
    origin = ((texture[:, 0] + np.array((middle, middle, 0), np.float32)) * along).sum(-1)
    gx, gy, gz = along.T
    # linear in x, y and the depth az + t dz - front
    factors = (gx, gy, gz, gz * shape.dz, gz * shape.az - origin)
    gx, gy, gz, deep, start = (values.take(capsule) for values in factors)
    return x * gx + y * gy + t * deep - front * gz + start
