"""Skeletons: consistency of the tables, conversions between layouts, mirror images, adjacency."""

import itertools

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.skeleton import (
    COCO_17,
    H36M_16,
    H36M_17,
    H36M_32,
    LAYOUTS,
    MPI_INF_3DHP_17,
    MPII_16,
    OPENPOSE_18,
    adjacency,
    conversion_matrix,
    convert,
    mirror,
)


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=LAYOUTS)
def test_tables_are_trees_with_paired_sides(skeleton):
    assert len(set(skeleton.joints)) == skeleton.num_joints == int(skeleton.name.split()[-2])
    assert skeleton.parents.count(-1) == 1
    for joint in range(skeleton.num_joints):
        seen = set()
        while joint != skeleton.root:
            assert joint not in seen
            seen.add(joint)
            joint = skeleton.parents[joint]
    mirror = np.array(skeleton.mirror)
    assert (mirror[mirror] == np.arange(skeleton.num_joints)).all()
    # mirroring keeps the tree: the mirrored joint's parent is the parent's mirror
    for parent, child in skeleton.bones:
        grandparent = skeleton.parents[mirror[child]]
        assert grandparent == mirror[parent] or skeleton is COCO_17


def test_published_orders():
    assert [H36M_32.index(joint) for joint in H36M_17.joints] == [
        0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # fmt: skip
    assert H36M_17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert H36M_16.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14)
    assert H36M_17.left == (4, 5, 6, 11, 12, 13) and H36M_17.right == (1, 2, 3, 14, 15, 16)
    assert MPII_16.index("hip") == 6 and COCO_17.index("left hip") == 11 and OPENPOSE_18.index("right foot") == 10


def test_17_to_16_drops_the_neck_and_keeps_numbers_exactly():
    points = torch.randn(3, 17, 2)
    sixteen = convert(points, H36M_17, H36M_16)
    assert torch.equal(sixteen, points[:, [j for j in range(17) if j != 9]])
    back = convert(sixteen, H36M_16, H36M_17)
    keep = [j for j in range(17) if j != 9]
    torch.testing.assert_close(back[:, keep], points[:, keep])
    torch.testing.assert_close(back[:, 9], (points[:, 8] + points[:, 10]) / 2)


def test_coco_hip_is_between_the_hips_in_numpy_and_torch():
    points = np.random.default_rng(0).normal(size=(4, 17, 2)).astype(np.float32)
    h36m = convert(points, "coco17", "h36m17")
    assert h36m.dtype == np.float32 and h36m.shape == (4, 17, 2)
    np.testing.assert_allclose(h36m[:, 0], points[:, [11, 12]].mean(1), rtol=1e-6)
    np.testing.assert_allclose(h36m[:, 8], points[:, [5, 6]].mean(1), rtol=1e-6)
    np.testing.assert_allclose(h36m[:, 7], (h36m[:, 0] + h36m[:, 8]) / 2, rtol=1e-5, atol=1e-6)
    assert np.array_equal(h36m[:, 9], points[:, 0])
    np.testing.assert_allclose(convert(torch.from_numpy(points), "coco17", "h36m17"), h36m, atol=1e-6)


def test_conversion_moves_with_the_body():
    """Weights sum to one, so a translated and scaled pose converts to the translated and scaled conversion."""
    for source, target in itertools.permutations(LAYOUTS.values(), 2):
        try:
            matrix = conversion_matrix(source, target)
        except InputError:
            continue
        np.testing.assert_allclose(matrix.sum(1), 1)
        for row, joint in zip(matrix, target.joints, strict=True):
            if joint.startswith("left "):  # nothing of the left side is made of right joints
                assert not any(row[j] and source.joints[j].startswith("right ") for j in range(source.num_joints))


def test_3dhp_head_top_is_the_h36m_head():
    points = np.arange(17 * 3, dtype=np.float64).reshape(17, 3)
    h36m = convert(points, MPI_INF_3DHP_17, H36M_17)
    assert np.array_equal(h36m[10], points[0]) and np.array_equal(h36m[9], points[16])
    assert np.array_equal(h36m[0], points[14])


def test_impossible_conversion_names_both_layouts_and_the_joints():
    with pytest.raises(InputError, match=r"Human3.6M 17.*COCO 17.*left eye"):
        convert(np.zeros((17, 2)), "h36m17", "coco17")


def test_wrong_joint_count_says_what_was_found_and_expected():
    with pytest.raises(InputError, match=r"found 16 joints, but COCO 17 keypoints has 17"):
        convert(np.zeros((5, 16, 2)), COCO_17, H36M_17)
    with pytest.raises(InputError, match="unknown joint layout 'body25'"):
        convert(np.zeros((5, 16, 2)), "body25", H36M_17)


@pytest.mark.parametrize(("skeleton", "edges"), [(H36M_17, 49), (H36M_16, 46)])
def test_adjacency_has_the_published_number_of_edges(skeleton, edges):
    matrix = adjacency(skeleton)
    assert (matrix > 0).sum() == edges
    torch.testing.assert_close(matrix.sum(1), torch.ones(skeleton.num_joints))
    assert torch.equal(matrix > 0, (matrix > 0).T)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("skeleton", [H36M_16, H36M_17])
def test_mirror_negates_x_and_exchanges_the_sides(skeleton, axes):
    points = torch.randn(4, skeleton.num_joints, axes)
    mirrored = mirror(points, skeleton)
    left, right, hip = skeleton.index("left knee"), skeleton.index("right knee"), skeleton.index("hip")
    assert torch.equal(mirrored[:, left, 0], -points[:, right, 0])
    assert torch.equal(mirrored[:, right, 1:], points[:, left, 1:])
    assert torch.equal(mirrored[:, hip, 1:], points[:, hip, 1:])
    assert torch.equal(mirror(mirrored, skeleton), points)
