"""Behaviour of the synthetic people as data: postures of legs, trunk and arms, scenes, and Human3.6M's actions.

A scene names the postures that it draws from; a posture is a row of ranges. Ranges are in degrees, or in metres for a
person whose hip stands 1 m high.
"""

from dataclasses import dataclass

# pelvis forward, left, height | each foot: forward, outward, height, knee outward | floor under both feet, pelvis
LEGS = {
    "stand": ((-0.03, 0.05), (-0.07, 0.07), (0.95, 1.0), (-0.08, 0.12), (-0.03, 0.12), (0, 0), (-5, 20), (0, 0)),
    "straddle": ((-0.06, 0.06), (-0.2, 0.2), (0.75, 0.95), (-0.15, 0.2), (0.1, 0.35), (0, 0), (-5, 35), (0, 0)),
    "lunge": ((-0.15, 0.2), (-0.1, 0.1), (0.6, 0.92), (-0.4, 0.5), (-0.02, 0.2), (0, 0), (-10, 25), (0, 0)),
    "crouch": ((-0.25, 0.02), (-0.1, 0.1), (0.4, 0.78), (-0.12, 0.2), (-0.02, 0.2), (0, 0.0), (-5, 40), (0, 0)),
    "duck": ((-0.2, 0.05), (-0.1, 0.1), (0.6, 0.85), (-0.1, 0.12), (-0.02, 0.12), (0, 0), (-5, 30), (0, 0)),
    "kneel": ((-0.05, 0.05), (-0.05, 0.05), (0.5, 0.6), (-0.5, -0.3), (-0.05, 0.1), (0, 0.03), (-10, 15), (0, 0)),
    "half kneel": ((-0.1, 0.1), (-0.05, 0.05), (0.5, 0.65), (-0.45, 0.4), (-0.05, 0.12), (0, 0.03), (-10, 25), (0, 0)),
    "chair": ((-0.52, -0.36), (-0.04, 0.04), (0.46, 0.58), (-0.2, 0.25), (-0.08, 0.2), (0, 0), (-8, 30), (0, 0)),
    "crossed": ((-0.5, -0.38), (-0.04, 0.04), (0.48, 0.56), (0, 0.3), (-0.25, 0.05), (0, 0.45), (10, 60), (0, 0)),
    "floor": ((-0.1, 0.1), (-0.05, 0.05), (0.1, 0.2), (0.25, 0.8), (-0.05, 0.35), (0, 0.05), (-5, 60), (0, 0)),
    "tailor": ((-0.1, 0.1), (-0.05, 0.05), (0.1, 0.16), (0.2, 0.4), (-0.22, 0.0), (0, 0.05), (50, 85), (0, 0)),
    "lie": ((-0.1, 0.1), (-0.05, 0.05), (0.11, 0.15), (0.4, 0.88), (-0.05, 0.25), (0, 0.1), (-10, 35), (0, 0)),
    "lie prone": ((-0.1, 0.1), (-0.05, 0.05), (0.11, 0.15), (0.86, 0.95), (-0.05, 0.25), (0, 0.1), (-10, 30), (0, 0)),
    "all fours": ((-0.05, 0.05), (-0.05, 0.05), (0.42, 0.55), (-0.5, -0.3), (-0.05, 0.1), (0, 0.03), (-5, 15), (0, 0)),
    "raise": ((-0.05, 0.05), (-0.05, 0.05), (0.9, 1.0), (-0.4, 0.5), (-0.1, 0.3), (0.1, 0.6), (-20, 60), (0, 0)),
    "kick": ((-0.1, 0.1), (-0.08, 0.08), (0.9, 1.0), (0.3, 0.85), (-0.1, 0.4), (0.3, 0.95), (-10, 40), (0, 0)),
    "leap": ((-0.1, 0.1), (-0.08, 0.08), (0.75, 1.02), (-0.3, 0.4), (-0.05, 0.3), (0, 0.35), (-10, 40), (0.1, 0.45)),
    "climb": ((-0.35, 0.05), (-0.15, 0.15), (0.5, 0.98), (-0.15, 0.35), (-0.1, 0.3), (0, 0.55), (-10, 60), (0, 0.7)),
    "hang": ((-0.2, 0.2), (-0.15, 0.15), (0.85, 1.0), (-0.45, 0.5), (-0.1, 0.3), (0, 0.5), (-10, 50), (0.15, 0.75)),
    "step": ((-0.05, 0.15), (-0.08, 0.08), (0.85, 0.98), (-0.2, 0.35), (-0.05, 0.15), (0, 0.35), (-5, 25), (0, 0.3)),
}
ONE_LEGGED = {"raise", "kick", "half kneel", "crossed", "step"}  # the other leg stands, or sits

# pelvis pitch, roll, yaw, turn | spine flexion, side, twist | head flexion, side, twist
TRUNKS = {
    "upright": ((-6, 10), (-4, 4), (-12, 12), (0, 0), (-6, 16), (-8, 8), (-20, 20), (-15, 30), (-12, 12), (-50, 50)),
    "stoop": ((-2, 20), (-4, 4), (-10, 10), (0, 0), (10, 40), (-10, 10), (-20, 20), (-10, 40), (-10, 10), (-35, 35)),
    "bow": ((20, 70), (-8, 8), (-15, 15), (0, 0), (10, 50), (-15, 15), (-30, 30), (-30, 30), (-12, 12), (-40, 40)),
    "free": ((-15, 35), (-15, 15), (-25, 25), (0, 0), (-20, 40), (-25, 25), (-40, 40), (-35, 35), (-20, 20), (-60, 60)),
    "arch": ((-20, 5), (-12, 12), (-15, 15), (0, 0), (-25, 0), (-15, 15), (-25, 25), (-40, 10), (-15, 15), (-45, 45)),
    "dangle": ((-50, 50), (-18, 18), (-35, 35), (0, 0), (-20, 45), (-20, 20), (-35, 35), (-35, 35), (-9, 9), (-50, 50)),
    "seated": ((-25, 5), (-6, 6), (-8, 8), (0, 0), (0, 35), (-12, 12), (-25, 25), (-15, 35), (-12, 12), (-50, 50)),
    "slumped": ((-35, -10), (-8, 8), (-8, 8), (0, 0), (10, 40), (-12, 12), (-20, 20), (-5, 35), (-12, 12), (-40, 40)),
    "supine": ((-92, -65), (-8, 8), (-5, 5), (-25, 35), (0, 25), (-8, 8), (-15, 15), (0, 40), (-12, 12), (-50, 50)),
    "aside": ((-92, -70), (-8, 8), (-5, 5), (40, 110), (0, 35), (-12, 12), (-15, 15), (-10, 35), (-12, 12), (-40, 40)),
    "prone": ((-98, -82), (-8, 8), (-5, 5), (150, 210), (-25, 5), (-8, 8), (-15, 15), (-40, 5), (-12, 12), (-60, 60)),
    "level": ((55, 90), (-8, 8), (-8, 8), (0, 0), (-10, 25), (-10, 10), (-20, 20), (-45, 25), (-12, 12), (-40, 40)),
}

# shoulder girdle up, forward | arm forward, outward | inward turn | elbow
ARMS = {
    "relaxed": ((-4, 5), (-6, 8), (-18, 22), (2, 18), (-5, 65), (4, 40)),
    "gesture": ((-4, 12), (-2, 20), (-5, 60), (0, 45), (0, 85), (35, 125)),
    "front": ((0, 18), (5, 25), (45, 110), (-25, 35), (-30, 70), (0, 60)),
    "side": ((0, 18), (-12, 12), (-15, 50), (50, 110), (-70, 40), (0, 70)),
    "up": ((12, 40), (-5, 12), (110, 168), (-10, 60), (-40, 50), (0, 75)),
    "wide": ((8, 38), (-8, 10), (0, 80), (80, 150), (-100, 10), (0, 100)),
    "back": ((-2, 12), (-15, 0), (-55, -10), (5, 45), (-20, 70), (0, 60)),
    "guard": ((0, 15), (5, 25), (20, 70), (0, 50), (-10, 70), (80, 140)),
    "flat": ((0, 30), (-10, 5), (-12, 8), (15, 150), (-100, -70), (0, 110)),
    "any": ((-5, 35), (-15, 25), (-50, 165), (-25, 120), (-80, 85), (0, 140)),
}

# hand from the thorax: forward, outward, up, in metres; its spread; the elbow points forward, outward, up
TOUCH = {
    "ear": ((0.04, 0.1, 0.12), 0.03, (0.3, 0.8, -0.5)),
    "mouth": ((0.14, 0.02, 0.03), 0.03, (0.2, 0.5, -0.8)),
    "eyes": ((0.2, 0.06, 0.12), 0.04, (0.1, 0.8, -0.5)),
    "nape": ((-0.08, 0.06, 0.08), 0.03, (0.2, 1.0, 0.3)),
    "waist": ((0.03, 0.24, -0.38), 0.04, (-0.6, 1.0, 0)),
    "tail": ((-0.16, 0.03, -0.42), 0.05, (-0.8, 0.6, -0.2)),
    "belly": ((0.2, 0.02, -0.36), 0.06, (-0.3, 0.7, -0.6)),
    "folded": ((0.2, -0.12, -0.26), 0.04, (-0.1, 0.6, -0.7)),
    "lap": ((0.3, 0.12, -0.42), 0.08, (-0.3, 0.6, -0.6)),
    "work": ((0.38, 0.08, -0.22), 0.12, (-0.2, 0.6, -0.7)),
    "carry": ((0.3, 0.16, -0.2), 0.1, (-0.4, 0.6, -0.7)),
    "grip": ((0.22, 0.2, 0.42), 0.16, (0.2, 0.8, -0.3)),
    "rail": ((0.35, 0.25, 0.1), 0.16, (-0.1, 0.7, -0.6)),
    "hilt": ((0.35, 0.0, -0.12), 0.16, (-0.2, 0.8, -0.5)),
    "ground": ((0.45, 0.12, -0.2), 0.1, (-0.4, 0.8, -0.2)),
}


@dataclass(frozen=True)
class Scene:
    """Names of postures to draw from; seconds between key postures; how the body travels over the floor.

    travel: "fix" keeps place and heading, "stay" turns and shifts, "roam" walks. speed in m/s. `both`: how often the
    arms do the same.
    """

    legs: tuple[str, ...]
    trunk: tuple[str, ...]
    arms: tuple[str, ...]
    travel: str = "stay"
    pace: tuple[float, float] = (0.6, 1.8)
    speed: tuple[float, float] = (0.6, 1.4)
    both: float = 0.3


SCENES = {
    "talk": Scene(("stand",), ("upright", "upright", "stoop"), ("gesture", "gesture", "relaxed", "waist", "belly")),
    "point": Scene(("stand", "stand", "lunge"), ("upright", "free"), ("front", "side", "up", "relaxed", "any")),
    "wave": Scene(("stand",), ("upright", "arch"), ("up", "wide", "relaxed", "guard"), pace=(0.3, 1.0)),
    "bow": Scene(("stand",), ("upright", "bow"), ("relaxed", "front", "belly", "folded"), both=0.6),
    "stretch": Scene(("stand", "straddle"), ("free", "arch", "bow"), ("any", "up", "nape", "wide"), both=0.6),
    "phone": Scene(("stand",), ("upright", "stoop"), ("ear", "ear", "relaxed", "waist"), both=0),
    "smoke": Scene(("stand",), ("upright", "stoop"), ("mouth", "mouth", "relaxed", "folded"), both=0),
    "wait": Scene(
        ("stand", "stand", "straddle"), ("upright", "stoop"), ("folded", "waist", "tail", "relaxed"), both=0.8
    ),
    "photo": Scene(("stand", "crouch", "half kneel", "lunge"), ("upright", "stoop", "free"), ("eyes",), both=0.9),
    "pose": Scene(("stand", "straddle", "lunge"), ("free", "upright", "arch"), ("any", "waist", "nape", "wide", "up")),
    "lift": Scene(("stand", "crouch", "lunge"), ("bow", "stoop", "upright"), ("carry", "front", "work"), both=0.8),
    "reach": Scene(("stand", "lunge", "straddle"), ("free", "bow"), ("front", "up", "side", "any", "relaxed")),
    "squat": Scene(("crouch", "kneel", "half kneel"), ("stoop", "free", "bow"), ("front", "work", "relaxed", "any")),
    "sit": Scene(
        ("chair", "chair", "crossed"),
        ("seated", "upright", "slumped", "stoop"),
        ("lap", "gesture", "work", "folded", "relaxed"),
        "fix",
    ),
    "sit eat": Scene(("chair",), ("stoop", "seated"), ("mouth", "work", "lap"), "fix", both=0.1),
    "sit phone": Scene(("chair", "crossed"), ("seated", "slumped"), ("ear", "ear", "lap", "gesture"), "fix", both=0),
    "sit smoke": Scene(("chair", "crossed"), ("seated", "slumped"), ("mouth", "lap", "work"), "fix", both=0),
    "sit reach": Scene(
        ("chair", "chair", "straddle"), ("seated", "bow", "free"), ("any", "up", "front", "side"), "fix"
    ),
    "eat": Scene(("stand",), ("upright", "stoop"), ("mouth", "work", "relaxed"), both=0.1),
    "sit down": Scene(
        ("floor", "floor", "tailor", "crouch"),
        ("seated", "slumped", "stoop"),
        ("lap", "back", "work", "gesture", "relaxed", "any"),
        "fix",
        pace=(0.8, 2.0),
    ),
    "lie": Scene(
        ("lie",),
        ("supine", "supine", "aside"),
        ("relaxed", "nape", "belly", "flat", "gesture", "up"),
        "fix",
        pace=(1.3, 2.6),
    ),
    "prone": Scene(
        ("lie prone",), ("prone", "prone", "aside"), ("flat", "flat", "ground", "relaxed"), "fix", pace=(1.3, 2.6)
    ),
    "crawl": Scene(("all fours", "all fours", "kneel"), ("level",), ("front", "ground"), "fix"),
    "walk": Scene(("stand",), ("upright", "upright", "stoop"), ("relaxed",), "roam"),
    "hands walk": Scene(("stand",), ("upright", "free"), ("relaxed", "gesture", "carry", "any", "tail", "ear"), "roam"),
    "low walk": Scene(
        ("duck", "stand", "duck"), ("stoop", "bow", "free"), ("relaxed", "front", "guard"), "roam", speed=(0.4, 0.9)
    ),
    "lead": Scene(("stand",), ("upright", "stoop", "free"), ("front", "back", "relaxed", "hilt"), "roam"),
    "run": Scene(("stand",), ("upright", "stoop"), ("guard",), "roam", speed=(1.6, 2.6)),
    "uneven": Scene(
        ("step", "step", "stand"),
        ("upright", "free", "stoop"),
        ("relaxed", "side", "gesture"),
        "roam",
        speed=(0.4, 0.9),
    ),
    "fight": Scene(
        ("lunge", "straddle", "stand", "kick"), ("free", "upright"), ("guard", "front", "hilt", "any"), pace=(0.35, 0.9)
    ),
    "swing": Scene(
        ("lunge", "straddle"), ("free", "upright"), ("hilt", "up", "side", "any"), pace=(0.35, 1.0), both=0.5
    ),
    "kick": Scene(("kick", "stand", "raise", "stand"), ("free", "upright"), ("guard", "any", "side"), pace=(0.4, 0.9)),
    "balance": Scene(("raise", "raise", "stand"), ("free", "upright"), ("side", "wide", "any"), pace=(0.8, 1.8)),
    "jump": Scene(
        ("crouch", "leap", "crouch", "stand"),
        ("stoop", "free", "arch"),
        ("back", "up", "any", "front"),
        pace=(0.32, 0.55),
        both=0.8,
    ),
    "climb": Scene(
        ("climb",), ("upright", "free", "arch", "stoop"), ("grip", "grip", "rail", "up"), pace=(0.6, 1.4), both=0.1
    ),
    "hang": Scene(("hang", "hang", "climb"), ("dangle", "free", "upright"), ("grip", "grip", "up"), pace=(0.5, 1.2)),
}

# Scenes of the first and the second take of every action.
ACTIONS = {
    "Directions": (("point", "talk", "walk"), ("point", "reach", "climb")),
    "Discussion": (("talk", "wait", "stretch"), ("talk", "fight", "hands walk")),
    "Eating": (("sit eat", "eat"), ("sit eat", "sit", "eat")),
    "Greeting": (("wave", "bow", "walk"), ("wave", "jump", "hands walk")),
    "Phoning": (("phone", "sit phone"), ("sit phone", "phone", "hands walk")),
    "Photo": (("photo", "walk", "squat", "crawl"), ("photo", "climb", "hang")),
    "Posing": (("pose", "stretch"), ("balance", "kick", "swing")),
    "Purchases": (("lift", "reach", "squat"), ("lift", "climb", "low walk")),
    "Sitting": (("sit", "sit reach"), ("sit", "sit smoke", "sit reach")),
    "SittingDown": (("sit down", "sit"), ("lie", "sit down", "prone")),
    "Smoking": (("smoke", "sit smoke"), ("sit smoke", "squat", "smoke")),
    "Waiting": (("wait", "sit", "walk"), ("wait", "hang", "stretch")),
    "WalkDog": (("lead", "lift", "walk"), ("lead", "low walk", "run")),
    "WalkTogether": (("walk", "hands walk"), ("uneven", "hands walk")),
    "Walking": (("walk",), ("walk", "run", "uneven")),
}
