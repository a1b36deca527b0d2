import pytest
import torch

from lesionkit.models import LesionDetector

from .detector_plans import check, forms, needs_rtx, precisions


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return LesionDetector("tiny").eval()


@needs_rtx
@forms
@precisions
def test_plan(tmp_path, detector, form, precision):
    check(tmp_path, detector, 192, form, precision)
