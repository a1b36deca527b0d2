import pytest
import torch

from lesionkit.deploy import export_onnx
from lesionkit.models import LesionDetector

from .detector_plans import check, forms, needs_rtx, precisions


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return LesionDetector("3dce_cs_att").eval()


@needs_rtx
@forms
@precisions
def test_plan(tmp_path, detector, form, precision):
    """VGG16, three images of 512 x 512."""
    file = tmp_path / "detector.onnx"
    export_onnx(detector, file, form=form, precision=precision)
    check(file, form, precision, detector, tmp_path)
