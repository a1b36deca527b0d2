"""The lesion detector, its configuration and its weight files."""

from lesionkit.models.config import PRESETS, DetectorConfig
from lesionkit.models.detector import LesionDetector
from lesionkit.models.weights import load_detector, save_detector

__all__ = ["PRESETS", "DetectorConfig", "LesionDetector", "load_detector", "save_detector"]
