"""Pictures of detections for people. Needs Pillow, from ``lesionkit[detect]``."""

from lesionkit.visualize.overlay import draw_boxes, save_grid, save_overlay

__all__ = ["draw_boxes", "save_grid", "save_overlay"]
