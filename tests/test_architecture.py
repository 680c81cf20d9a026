"""The floors of the house: an import goes down only, scripts read in one sitting."""

import ast

import pytest

from tests.conftest import ROOT

# The floors within common/, from the ground up. A new module finds its place here.
FLOORS = {
    "geometry": """
        bones camera errors heatmap heatmap_2017 heatmap_decode heatmap_metrics lifting metrics procrustes rotation
        skeleton threads upright
    """,
    "data": """
        acclaim behaviour bvh clutter coco_images crop dataset figure files h36m h36m_files h36m_images image_data
        image_files image_poses keypoint_files keypoint_formats keypoint_layouts mat mocap mocap_files mocap_joints
        mocap_people module_pickle motion mpi_inf_3dhp mpii_images multiview multiview_writer npz pose_files pose_set
        poses_2d postures render screen synthetic synthetic_cross synthetic_images video video_keypoints
    """,
    "running": """
        accelerate any_lifter batch_norm checkpoint encoder_decoder encoder_decoder_checkpoint following_options
        gan_checkpoint hourglass_checkpoint hourglass_options image_loader imagenet lifter_options loss_buffer memory
        multiview_batches options running script
    """,
    # with what the scripts of one method share where scores are part of it, and the written record of a run: it draws
    "measuring and drawing": """
        augmented_data draw encoder_decoder_pictures encoder_decoder_scores evaluate gan grid hourglass
        hourglass_pictures ites keypoint_report lift_video pckh poseaug poseaug_collapse poseaug_pictures runlog scene
        summary summary_chart turntable vis_html
    """,
}
FLOOR = {name: floor for floor, names in enumerate(FLOORS.values(), 1) for name in names.split()}
GEOMETRY = {f"common.{name}" for name in ("errors", "skeleton", "camera", "rotation", "bones", "threads")}


def imported(path) -> set[str]:
    """Modules of this project that a file imports, as `package.module`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("common", "models", "tests", "data")}


@pytest.mark.parametrize("path", sorted(ROOT.glob("common/*.py")), ids=lambda path: path.stem)
def test_the_library_imports_no_network(path):
    assert not {name for name in imported(path) if name.split(".")[0] != "common"}


def test_every_module_of_the_library_has_one_floor():
    names = [name for floor in FLOORS.values() for name in floor.split()]
    assert sorted(names) == sorted(path.stem for path in ROOT.glob("common/*.py"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("common/*.py")), ids=lambda path: path.stem)
def test_the_library_imports_go_down_only(path):
    below = {name.split(".")[1] for name in imported(path) if name.startswith("common.")} & set(FLOOR)
    assert not {name for name in below if FLOOR[name] > FLOOR[path.stem]}


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*.py")), ids=lambda path: path.stem)
def test_networks_import_geometry_only(path):
    modules = {".".join(name.split(".")[:2]) for name in imported(path) if name.startswith("common.")}
    assert modules <= GEOMETRY, modules - GEOMETRY


def test_scripts_and_modules_read_in_one_sitting():
    for path in ROOT.glob("*.py"):
        assert path.read_text().count("\n") <= 250, path
    for path in [*ROOT.glob("common/*.py"), *ROOT.glob("models/*.py")]:
        assert path.read_text().count("\n") <= 400, path


@pytest.mark.parametrize("package", ["common", "models"])
def test_the_library_neither_prints_nor_star_imports(package):
    for path in ROOT.glob(f"{package}/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), path
            assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), path


def test_matplotlib_is_imported_where_something_is_drawn():
    """It takes most of a second, which a script that has only a wrong option to name should not."""
    for path in [*ROOT.glob("*.py"), *ROOT.glob("common/*.py"), *ROOT.glob("models/*.py")]:
        if path.stem == "summary_chart":  # of run_summary.py, which always draws
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "matplotlib"], path
