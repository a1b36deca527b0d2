"""PSROI pooling in standard ONNX operators against the op."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from lesionkit import ps_roi_pool, ps_roi_pool_reference
from lesionkit.deploy import native_form
from lesionkit.deploy.onnx import translate

ROIS = 24  # of each sample
CASES = [  # channels, groups, height, width, scale, convention
    (2, 7, 24, 31, 1 / 8, "rfcn"),
    (1, 4, 17, 22, 1 / 4, "torchvision"),
]


class Pool(torch.nn.Module):
    def __init__(self, groups, scale, convention):
        super().__init__()
        self.options = groups, scale, convention

    def forward(self, features, rois):
        return ps_roi_pool(features, rois.flatten(0, 1), *self.options)


def random_rois(random, batch, width, height):
    """Boxes on, across and off the map, and what detectors with broken numbers give."""
    rois = np.empty((batch, ROIS, 5))
    rois[..., 0] = np.arange(batch)[:, None]
    first = random.uniform(-0.2, 1, (batch, ROIS, 2)) * (width, height)
    rois[..., 1:3] = first
    rois[..., 3:] = first + random.exponential(0.3, (batch, ROIS, 2)) * (width, height)
    rois[:, 1, 1:] = np.round(rois[:, 1, 1:] * 2) / 2  # halves, which round away from zero
    rois[:, 2, 1:] = -np.round(rois[:, 2, 1:]) - 0.5
    rois[:, 3, 3:] = rois[:, 3, 1:3]  # one pixel
    rois[:, 4, 3:] = rois[:, 4, 1:3] - random.uniform(0, 40)  # ends before it starts
    rois[:, 5, 1:] = (0, 0, width - 1, height - 1)
    rois[:, 6, 1:] = (-1e30, -5, 1e30, height)
    rois[:, 7, 1:] = (-3e38, -3e38, 3e38, 3e38)  # its width overflows
    rois[:, 8 + random.integers(0, 4), 1 + random.integers(0, 4)] = random.choice(
        [np.nan, np.inf, -np.inf]
    )
    rois[:, 12, 0] = random.choice([-1, batch, np.nan, np.inf, -1e30, 1e30])
    rois[:, 13, 0] += 0.5  # truncated
    rois[:, 14, 0] = -0.5
    return torch.from_numpy(rois.astype(np.float32))


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, tmp_path_factory):
    channels, groups, height, width, scale, convention = request.param
    maps = channels * groups**2
    inputs = {"features": torch.zeros(2, maps, height, width), "rois": torch.zeros(2, ROIS, 5)}
    pool = Pool(groups, scale, convention)
    path = tmp_path_factory.mktemp("psroi") / "pool.onnx"
    translate(pool, inputs, ["pooled"], "native").save(path)
    assert not any(node.domain for node in onnx.load(path).graph.node)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, pool, (maps, height, width), scale


def test_equals_the_op(case):
    session, pool, shape, scale = case
    random = np.random.default_rng(7)
    for _ in range(200 // len(CASES)):
        batch = int(random.integers(1, 4))
        features = torch.from_numpy(random.normal(size=(batch, *shape)).astype(np.float32))
        rois = random_rois(random, batch, shape[2] / scale, shape[1] / scale)
        feed = {"features": features.numpy(), "rois": rois.numpy()}
        pooled = torch.from_numpy(session.run(None, feed)[0])
        expected = pool(features, rois)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)
        assert (pooled.flatten(1) == 0).all(1).equal((expected.flatten(1) == 0).all(1))
        assert expected.count_nonzero() > 0


@pytest.mark.parametrize("size", [(12, 13), (48, 1), (1, 9)])
@pytest.mark.parametrize("convention", ["rfcn", "torchvision"])
def test_equals_the_reference(convention, size):
    random = np.random.default_rng(8)
    features = torch.from_numpy(random.normal(size=(2, 2 * 9, *size)).astype(np.float32))
    rois = random_rois(random, 2, 104, 96).flatten(0, 1)
    pooled = native_form.ps_roi_pool(features, rois, 3, 1 / 8, convention)
    expected = ps_roi_pool_reference(features, rois, 3, 1 / 8, convention)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


def test_half_features_and_float32_rois():
    random = np.random.default_rng(9)
    features = torch.from_numpy(random.normal(size=(2, 2 * 49, 64, 64)).astype(np.float32))
    rois = random_rois(random, 2, 512, 512).flatten(0, 1)
    pooled = native_form.ps_roi_pool(features.half(), rois, 7, 1 / 8, "rfcn")
    assert pooled.dtype == torch.float16
    expected = ps_roi_pool(features, rois, 7, 1 / 8)
    torch.testing.assert_close(pooled.float(), expected, rtol=2e-3, atol=2e-3)
