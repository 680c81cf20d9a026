"""Reference vectors of the cameras and quaternions."""

import torch

from common import camera, rotation
from tests.golden import geometry
from tests.golden.rule import FORWARD, ROTATION, Golden, Tolerance

INPUTS = (
    "cam0_world", "cam1_world", "cam0_wide", "cam1_wide", "cam0_pixels", "cam1_pixels",
    "projection_in", "quat", "vec", "euler_R", "cam0_res_wh", "cam1_res_wh",
)  # fmt: skip
PIXELS = Tolerance(absolute=1e-3, relative=1e-5)  # float32 pixels of size 1000


def check(golden: Golden) -> None:
    """Every array of camera.npz."""
    for name, entry in zip(("cam0", "cam1"), golden.meta["cameras"], strict=True):
        view = next(v for v in camera.h36m_cameras()[entry["subject"]] if v.id == entry["id"])
        _check_camera(golden, name, view)

    points = golden["projection_in"]
    z = points[..., 2:]
    golden.check("camera_projection_orthographic", points[..., :2])
    golden.check("camera_projection_orthographic_depth", z)
    golden.check("camera_unprojection_orthographic", torch.cat((points[..., :2], z), -1))
    shrunk = camera.perspective(points, distance=0, nearest=0.1)
    golden.check("camera_projection_perspective", shrunk)
    golden.check("camera_projection_perspective_depth", z.clamp_min(0.1))
    golden.check("camera_unprojection_perspective", camera.unproject(shrunk, z.clamp_min(0.1), distance=0, nearest=0.1))

    golden.check("qrot", rotation.quaternion_rotate(golden["quat"], golden["vec"]), ROTATION)
    golden.check("qinverse", rotation.quaternion_inverse(golden["quat"]), ROTATION)
    golden.check("euler_deg", geometry.matrix_to_euler(golden["euler_R"].double()), FORWARD)


def _check_camera(golden: Golden, name: str, view: camera.Camera) -> None:
    q, t = torch.tensor(view.orientation), torch.tensor(view.translation)
    golden.check(f"{name}_orientation", q, ROTATION)
    golden.check(f"{name}_translation_m", t, ROTATION)
    golden.check(f"{name}_focal_px", torch.tensor(view.focal), PIXELS)
    golden.check(f"{name}_center_px", torch.tensor(view.centre), PIXELS)
    screen_units = view.intrinsics("screen")
    mixed = torch.cat((view.intrinsics()[:2], screen_units[2:]))  # as published: the focal length alone in pixels
    golden.check(f"{name}_intrinsic_px", mixed, FORWARD)
    golden.check(f"{name}_intrinsic_norm", screen_units, ROTATION)

    in_camera = camera.world_to_camera(golden[f"{name}_world"], q, t)
    golden.check(f"{name}_camera", in_camera, ROTATION)
    golden.check(f"{name}_world_back", camera.camera_to_world(in_camera, q, t), ROTATION)
    for kind, intrinsics, tolerance in (("px", mixed, PIXELS), ("norm", screen_units, FORWARD)):
        for prefix, points in (("", golden[f"{name}_camera"]), ("wide_", golden[f"{name}_wide"])):
            golden.check(f"{name}_{prefix}project_{kind}", camera.project(points, intrinsics), tolerance)
            golden.check(
                f"{name}_{prefix}project_linear_{kind}", geometry.project_linear(points, intrinsics), tolerance
            )

    pixels = golden[f"{name}_pixels"].double()
    screen = camera.normalise_screen(pixels, view.width, view.height)
    golden.check(f"{name}_normalized_screen", screen, ROTATION)
    golden.check(f"{name}_image_coordinates", geometry.denormalise_screen(screen, view.width, view.height), PIXELS)
    projected = camera.project(golden[f"{name}_camera"], screen_units).double()
    golden.check(
        f"{name}_norm_projection_in_pixels", geometry.denormalise_screen(projected, view.width, view.height), PIXELS
    )
