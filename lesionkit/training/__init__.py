"""Training a detector."""

from lesionkit.training.boxes import read_boxes
from lesionkit.training.config import TRAINING_PRESETS, TrainingConfig
from lesionkit.training.loop import train
from lesionkit.training.run_config import RunConfig, read_run_config
from lesionkit.training.samples import Samples, deeplesion_samples, scan_samples

__all__ = [
    "TRAINING_PRESETS",
    "RunConfig",
    "Samples",
    "TrainingConfig",
    "deeplesion_samples",
    "read_boxes",
    "read_run_config",
    "scan_samples",
    "train",
]
