"""From scenes to motion channels: key postures joined smoothly, and feet that walk with the body.

Key postures are drawn at random inside the ranges of `common.synthetic.postures`, each part of the body at moments of
its own. People walk by foot placements that follow the path of the body over the floor.
"""

import numpy as np
from numpy import ndarray as Array

from common.synthetic.motion import ANKLE_HEIGHT, Body, arm_angles
from common.synthetic.postures import ARMS, LEGS, ONE_LEGGED, SCENES, TOUCH, TRUNKS, Scene

FPS = 50
STANCE = 0.1  # half the distance between the feet
ARENA = (1.15, 1.25)  # half axes in metres of the ellipse of floor that all four Human3.6M cameras see
TURNS = np.radians(70)  # spread of a turn on the spot
WALKING_ARMS = 0.9  # radians of arm swing per metre that the opposite foot is ahead
SMOOTH_BODY, SMOOTH_PATH = 0.06, 0.28  # seconds


def perform(body: Body, take: tuple[str | Scene, ...], frames: int, rng: np.random.Generator) -> dict[str, Array]:
    """Motion channels (frames, width) of one take: some of its scenes (names in `SCENES`, or their own), in turn."""
    acts = _acts(take, frames / FPS, rng)
    time = np.arange(frames) / FPS
    place, heading = _path(acts, time, rng)
    legs = _smooth(_legs(acts, time, rng) * _leg_units(body), SMOOTH_BODY)
    pelvis, left, right, floor = np.split(legs, (3, 7, 11), axis=1)
    feet = _feet(place, heading, (left, right), floor, rng)
    trunk = _smooth(np.radians(_trunk(acts, time, rng)), SMOOTH_BODY)
    arms = _smooth(np.concatenate(_arms(body, acts, time, rng), 1), SMOOTH_BODY)
    motion = {
        "place": place,
        "heading": heading[:, None],
        "pelvis": pelvis + floor * (0, 0, 1),
        "tilt": trunk[:, :4],
        "spine": trunk[:, 4:7],
        "head": trunk[:, 7:],
        "left_arm": arms[:, :6],
        "right_arm": arms[:, 6:],
        "left_foot": feet[0],
        "right_foot": feet[1],
    }
    _swing_with_steps(motion)
    return motion


def _acts(take: tuple[str | Scene, ...], seconds: float, rng: np.random.Generator) -> list[tuple[Scene, float, float]]:
    """(scene, start, stop): the take's scenes in random order, each for 3 s or longer."""
    count = max(1, min(len(take), int(seconds // 3)))
    chosen = rng.permutation(len(take))[:count]
    share = rng.uniform(0.7, 1.3, count)
    ends = np.concatenate(([0], np.cumsum(share) / share.sum())) * seconds
    scenes = [SCENES[take[i]] if isinstance(take[i], str) else take[i] for i in chosen]
    return [(scene, ends[k], ends[k + 1]) for k, scene in enumerate(scenes)]


def _key_times(act: tuple[Scene, float, float], rng: np.random.Generator, pace: float = 1.0) -> Array:
    """Moments of the key postures of one act; a change of scene gets more time."""
    scene, start, stop = act
    low, high = (p * pace for p in scene.pace)
    steps = rng.uniform(low, high, int((stop - start) / low) + 1)
    times = start + 0.9 + np.cumsum(steps) - steps[0]
    return times[: max(1, (times < stop - 0.6).sum())]


def _between(keys: Array, values: Array, time: Array, rng: np.random.Generator) -> Array:
    """Values (K, C) held for a while at each key time (K,), with eased changes in between -> (T, C)."""
    gaps = np.diff(keys, append=keys[-1] + 1)
    hold = np.minimum(rng.uniform(0, 0.4, len(keys)) * gaps, 0.6)
    index = np.clip(np.searchsorted(keys, time, side="right") - 1, 0, len(keys) - 1)
    after = np.minimum(index + 1, len(keys) - 1)
    share = np.clip((time - keys[index] - hold[index]) / np.maximum(gaps[index] - hold[index], 1e-6), 0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    return values[index] * (1 - share) + values[after] * share


def _smooth(values: Array, seconds: float) -> Array:
    """Gaussian smoothing in time of (T, C)."""
    reach = int(np.ceil(3 * seconds * FPS))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * FPS)) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0) @ (kernel / kernel.sum())


def _draw(table: dict[str, tuple], names: list[str], rng: np.random.Generator) -> Array:
    """One row (len(table row),) per name, uniform inside the ranges."""
    low, high = np.moveaxis(np.array([table[name] for name in names], float), -1, 0)
    return low + (high - low) * rng.random(low.shape)


def _leg_units(body: Body) -> Array:
    """Lengths of the leg table are for a hip 1 m above the floor, its knee turns are in degrees."""
    foot = (body.stand, body.stand, body.stand, np.radians(1))
    return np.array((body.stand,) * 3 + foot * 2 + (body.stand,))


def _legs(acts, time: Array, rng: np.random.Generator) -> Array:
    """Pelvis (3), left foot (4), right foot (4) and floor (1) through the acts: (T, 12), in the units of the table."""
    times, rows = [], []
    for act in acts:
        keys = _key_times(act, rng, pace=1.4 if act[0].pace[0] > 0.3 else 1.0)
        start = rng.integers(len(act[0].legs))
        names = [act[0].legs[(start + i) % len(act[0].legs)] for i in range(len(keys))]
        one, other = _draw(LEGS, names, rng), _draw(LEGS, names, rng)
        single = np.array([name in ONE_LEGGED for name in names])
        ground = np.array(["chair" if name == "crossed" else "stand" for name in names])
        other[single, 3:7] = _draw(LEGS, list(ground), rng)[single, 3:7]
        flip = rng.random(len(keys)) < 0.5
        for row in (one, other):  # a foot comes near the hip only in front of it
            row[:, 5] = np.minimum(row[:, 5], row[:, 2] - 0.28 + 0.6 * np.abs(row[:, 3]))
        left, right = np.where(flip[:, None], other, one)[:, 3:7], np.where(flip[:, None], one, other)[:, 3:7]
        one[single, 1] += np.where(flip, 0.06, -0.06)[single]  # the weight is on the other leg
        times.append(keys)
        rows.append(np.concatenate((one[:, :3], left, right, one[:, 7:]), 1))
    return _between(np.concatenate(times), np.concatenate(rows), time, rng)


def _trunk(acts, time: Array, rng: np.random.Generator) -> Array:
    """Pelvis tilt (4), spine (3) and head (3) in degrees: (T, 10). The head moves at moments of its own."""
    parts, roll = [], rng.choice((-1, 1))  # rolls over one side only
    for columns, pace in ((slice(0, 4), 1.2), (slice(4, 7), 1.0), (slice(7, 10), 0.9)):
        times, rows = [], []
        for act in acts:
            keys = _key_times(act, rng, pace)
            times.append(keys)
            rows.append(_draw(TRUNKS, list(rng.choice(act[0].trunk, len(keys))), rng)[:, columns])
        parts.append(_between(np.concatenate(times), np.concatenate(rows), time, rng))
    return np.concatenate(parts, 1) * np.array((1, 1, 1, roll, 1, 1, 1, 1, 1, 1))


def _arms(body: Body, acts, time: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Angles (T, 6) of the left and of the right arm, radians."""
    times, rows = ([], []), ([], [])
    for act in acts:
        scene = act[0]
        busy = rng.integers(2)
        for side in (0, 1):
            keys = _key_times(act, rng)
            choice = rng.choice(scene.arms, len(keys))
            if scene.both == 0:  # a thing is held in one hand
                held = np.where(rng.random(len(keys)) < 0.6, scene.arms[0], choice)
                choice = held if side == busy else rng.choice([a for a in scene.arms if a != scene.arms[0]], len(keys))
            times[side].append(keys)
            rows[side].append(_arm_postures(body, list(choice), rng))
        if rng.random() < scene.both:
            times[1][-1], rows[1][-1] = times[0][-1], rows[0][-1] + rng.normal(0, 0.1, rows[0][-1].shape)
    left, right = (_between(np.concatenate(t), np.concatenate(r), time, rng) for t, r in zip(times, rows, strict=True))
    return left, right


def _arm_postures(body: Body, names: list[str], rng: np.random.Generator) -> Array:
    """Arm angles (len(names), 6) in radians for postures of both tables."""
    free = np.array([name in ARMS for name in names])
    angles = np.empty((len(names), 6))
    if free.any():
        angles[free] = np.radians(_draw(ARMS, [name for name in names if name in ARMS], rng))
    if not free.all():
        rows = [TOUCH[name] for name in names if name in TOUCH]
        hand, spread, pole = (np.array(column, float) for column in zip(*rows, strict=True))
        hand = hand + spread[:, None] * rng.normal(0, 1, hand.shape)
        girdle = np.radians(rng.uniform((0, -2), (12, 15), (len(rows), 2)))
        girdle[:, 0] += np.radians(40) * np.clip(hand[:, 2], 0, 0.5)
        angles[~free] = arm_angles(body, hand, pole + rng.normal(0, 0.25, pole.shape), girdle)
    return angles


def _path(acts, time: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Place on the floor (T, 2) and heading (T,) through the acts."""
    here, facing = _somewhere(rng), rng.uniform(-np.pi, np.pi)
    places, headings = [(0.0, here)], [(0.0, facing)]
    for scene, start, stop in acts:
        now = start
        aside = rng.choice((0, 0, 0, 0, np.pi, np.pi / 2, -np.pi / 2))  # walks backwards or sideways
        slow = 1 if aside == 0 else 0.6
        while now < stop:
            if scene.travel == "roam":
                goal = _somewhere(rng)
                step = goal - here
                if np.hypot(*step) < 0.5:
                    continue
                later = now + np.hypot(*step) / (slow * rng.uniform(*scene.speed)) + (rng.random() < 0.15)
                wanted = np.arctan2(step[1], step[0]) + aside
            elif scene.travel == "stay":
                later = now + rng.uniform(1.2, 3.5)
                goal = here + rng.normal(0, 0.12, 2) * (rng.random() < 0.6)
                wanted = facing + rng.normal(0, TURNS) * (rng.random() < 0.6)
            else:
                later, goal, wanted = stop, here, facing
            facing += (wanted - facing + np.pi) % (2 * np.pi) - np.pi
            here = goal
            headings.append((now + 0.2, facing))
            places.append((later, here))
            now = later
    moments, points = (np.array(column) for column in zip(*places, strict=True))
    place = np.stack([np.interp(time, moments, points[:, i]) for i in (0, 1)], 1)
    moments, angles = (np.array(column) for column in zip(*headings, strict=True))
    heading = angles[np.searchsorted(moments, time, side="right") - 1]
    return _smooth(place, SMOOTH_PATH), _smooth(heading[:, None], SMOOTH_PATH)[:, 0]


def _somewhere(rng: np.random.Generator) -> Array:
    """A random point of the arena (2,)."""
    angle, radius = rng.uniform(-np.pi, np.pi), np.sqrt(rng.random())
    return radius * np.array(ARENA) * (np.cos(angle), np.sin(angle))


def _feet(place: Array, heading: Array, offsets: tuple[Array, Array], floor: Array, rng) -> list[Array]:
    """World ankles and knee turns (T, 4) of the left and the right foot from their offsets (T, 4) to the body's place.

    A foot on the floor keeps its spot until it is too far from where it is wanted, then takes a step; a raised foot
    goes where it is wanted.
    """
    forward = np.stack((np.cos(heading), np.sin(heading)), 1)
    left = np.stack((-forward[:, 1], forward[:, 0]), 1)
    wanted = [
        place + forward * offset[:, :1] + side * left * (STANCE + offset[:, 1:2])
        for side, offset in zip((1, -1), offsets, strict=True)
    ]
    feet = []
    for spots, offset, (planted, lift) in zip(wanted, offsets, _steps(wanted, rng), strict=True):
        height = offset[:, 2:3] + floor
        free = np.clip(height / 0.12, 0, 1)
        free = free * free * (3 - 2 * free)
        spot = planted + free * (spots - planted)
        feet.append(np.concatenate((spot, ANKLE_HEIGHT + height + lift * (1 - free), offset[:, 3:]), 1))
    return feet


def _steps(wanted: list[Array], rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Turn wanted foot spots (T, 2) into planted spots (T, 2) and lifts (T, 1) for either foot, by alternate steps."""
    frames = len(wanted[0])
    planted = [np.repeat(spots[:1], frames, 0) for spots in wanted]
    lifts = [np.zeros((frames, 1)) for _ in wanted]
    lift_share, tempo = rng.uniform(0.08, 0.16), rng.uniform(0.9, 1.15)
    now, side = 0, int(rng.integers(2))
    while now < frames - 2:
        ahead = min(now + 15, frames - 1)
        speed = np.hypot(*(wanted[side][ahead] - wanted[side][now])) * FPS / max(ahead - now, 1)
        period = int(np.clip(0.68 - 0.14 * speed, 0.3, 0.62) * tempo * FPS)
        swing = max(int(0.75 * period), 2)
        goal = wanted[side][min(now + period + swing // 2, frames - 1)]
        step = goal - planted[side][now]
        length = np.hypot(*step)
        if length > 0.07:
            stop = min(now + swing, frames)
            share = np.minimum(np.arange(1, stop - now + 1) / (0.88 * swing), 1)[:, None]  # comes down on the spot
            planted[side][now:stop] += step * share * share * (3 - 2 * share)
            planted[side][stop:] = goal
            heel = min(swing // 3, now)  # the heel leaves the floor before the toes do
            share = np.arange(1, stop - now + heel + 1) / (swing + heel)
            lifts[side][now - heel : stop, 0] = (0.04 + lift_share * min(length, 1.2)) * np.sin(np.pi * share**0.8) ** 2
            now += period
        else:
            now += 4
        side = 1 - side
    return list(zip(planted, lifts, strict=True))


def _swing_with_steps(motion: dict[str, Array]) -> None:
    """Swing hanging arms and turn pelvis and chest against each other with the feet (changes `motion`)."""
    heading = motion["heading"][:, 0]
    apart = motion["right_foot"][:, :2] - motion["left_foot"][:, :2]
    ahead = np.clip(apart[:, 0] * np.cos(heading) + apart[:, 1] * np.sin(heading), -0.8, 0.8)
    ahead = _smooth(ahead[:, None], SMOOTH_BODY)[:, 0]  # of the right foot
    motion["tilt"][:, 2] += 0.2 * ahead
    motion["spine"][:, 2] -= 0.35 * ahead
    for name, sign in (("left_arm", 1), ("right_arm", -1)):
        arm = motion[name]
        hanging = np.clip(1.2 - np.hypot(arm[:, 2], arm[:, 3]) / np.radians(50), 0, 1)
        arm[:, 2] += sign * WALKING_ARMS * ahead * hanging
