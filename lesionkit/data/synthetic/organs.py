"""Tables of the organs, great vessels and vessel trees of a synthetic torso (see
`lesionkit.data.synthetic.anatomy` for the coordinates)."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lesionkit.data.synthetic.sections import Section

LUNG, MEDIASTINUM, LIVER, SPLEEN, KIDNEY, VISCERAL_FAT, MUSCLE, SUBCUTANEOUS, MARROW, OTHER = range(
    1, 11
)
# Mean HU of a portal-venous scan; each patient varies it a little.
TISSUE_HU = {
    LUNG: -860.0,
    MEDIASTINUM: -95.0,
    LIVER: 112.0,
    SPLEEN: 122.0,
    KIDNEY: 175.0,
    VISCERAL_FAT: -98.0,
    MUSCLE: 58.0,
    SUBCUTANEOUS: -104.0,
    MARROW: 190.0,
}


class Organ(NamedTuple):
    """An organ between two heights: an ellipse that swells and shrinks with z."""

    top: float
    bottom: float
    x: float
    y: float
    rx: float
    ry: float
    hu: float
    tissue: int = OTHER
    angle: float = 0.0
    wobble: float = 0.05
    phase: float = 0.0
    blunt: float = 2.0  # 2: ellipsoid; more: cylinder with rounded ends
    drift_x: float = 0.0  # mm that the centre moves from top to bottom
    drift_y: float = 0.0
    wall: float = 0.0  # thickness, mm; 0: solid
    wall_hu: float = 0.0


# Read as: top, bottom, x, y, rx, ry, HU, tissue.
CHEST_ORGANS = (
    Organ(112, 222, 16, -30, 56, 47, -90, angle=0.5, wobble=0.06, blunt=3),  # pericardial fat
    Organ(116, 218, 17, -30, 51, 41, 95, angle=0.5, wobble=0.05, blunt=3),  # myocardium
    Organ(122, 206, 40, -22, 24, 18, 165, angle=0.7, blunt=3),  # left ventricle
    Organ(124, 204, 4, -48, 32, 15, 160, angle=0.4, wobble=0.1, blunt=3),  # right ventricle
    Organ(128, 212, -24, -20, 17, 23, 160, wobble=0.08, blunt=3),  # right atrium
    Organ(112, 164, 6, 2, 30, 15, 165, wobble=0.1, blunt=3),  # left atrium
    Organ(84, 120, 4, -12, 34, 11, 165, angle=-0.25, wobble=0.06, blunt=4),  # pulmonary arteries
    Organ(52, 74, 8, 2, 15, 36, 170, angle=-0.5, blunt=4),  # aortic arch
    Organ(-60, 108, 0, 2, 9, 8.5, -1000, blunt=9, wobble=0.08, drift_y=10),  # trachea
    Organ(102, 150, -16, 14, 7, 6.5, -1000, drift_x=-30, drift_y=6),  # right bronchus
    Organ(102, 150, 16, 14, 6.5, 6, -1000, drift_x=34, drift_y=6),  # left bronchus
    Organ(-40, 232, 8, 30, 9, 7, 45, wobble=0.12, blunt=9),  # oesophagus
)
ABDOMINAL_ORGANS = (
    Organ(184, 376, -62, -2, 68, 80, 0, LIVER, wobble=0.05, blunt=3, drift_x=-18, drift_y=-8),
    Organ(196, 300, -2, -44, 66, 34, 0, LIVER, wobble=0.09, drift_x=-14, angle=-0.2),
    Organ(205, 318, 92, 30, 31, 46, 0, SPLEEN, angle=-0.35, wobble=0.07, blunt=2.6),
    Organ(
        208, 312, 58, -36, 44, 32, 15, angle=-0.5, wobble=0.08, drift_x=-18, wall=5, wall_hu=85
    ),  # stomach
    Organ(280, 400, -62, 36, 40, 35, -98, VISCERAL_FAT, angle=0.5),  # fat around the kidneys
    Organ(286, 394, -60, 38, 30, 27, 0, KIDNEY, angle=0.5, wobble=0.04, drift_x=-6),
    Organ(308, 372, -47, 33, 12, 7, -70, angle=0.5, wobble=0.12),  # renal sinus
    Organ(264, 386, 62, 34, 40, 35, -98, VISCERAL_FAT, angle=-0.5),
    Organ(270, 380, 60, 36, 30, 27, 0, KIDNEY, angle=-0.5, wobble=0.04, drift_x=6),
    Organ(292, 356, 47, 31, 12, 7, -70, angle=-0.5, wobble=0.12),
    Organ(296, 326, 6, -14, 52, 11, 88, angle=-0.25, wobble=0.16),  # pancreas
    Organ(
        326, 450, -100, 0, 24, 22, -480, wobble=0.09, blunt=5, wall=4, wall_hu=55
    ),  # ascending colon
    Organ(
        318, 450, 104, 12, 17, 16, -380, wobble=0.09, blunt=5, wall=4, wall_hu=55
    ),  # descending colon
    Organ(
        352, 388, 0, -62, 100, 15, -560, wobble=0.06, blunt=3, wall=4, wall_hu=55
    ),  # transverse colon
    Organ(500, 580, 0, -28, 42, 30, 8, wobble=0.04, blunt=2.6),  # bladder
    Organ(470, 580, 2, 42, 17, 15, -700, wobble=0.08, blunt=6, wall=6, wall_hu=55),  # rectum
    Organ(532, 580, 0, 6, 27, 18, 70, wobble=0.05, blunt=5),  # prostate or uterus
)
# Great vessels and muscles: HU, tissue, then knots (z, x, y, rx, ry) joined by straight lines.
TUBES = (
    (170, OTHER, ((62, 24, 38, 12, 12), (180, 20, 42, 12, 12), (250, 8, 30, 11, 11),
                  (405, 4, 26, 9, 9))),  # descending aorta
    (170, OTHER, ((56, -10, -22, 15, 15), (120, -8, -24, 16, 16))),  # ascending aorta
    (150, OTHER, ((0, -30, -10, 8, 8), (60, -27, -16, 9, 9), (130, -28, -14, 10, 10))),  # SVC
    (140, OTHER, ((-40, 24, 0, 6, 6), (56, 14, -6, 7, 7))),  # left carotid
    (140, OTHER, ((-40, -24, 0, 6, 6), (56, -14, -10, 7, 7))),  # brachiocephalic
    (125, OTHER, ((196, -26, 10, 13, 11), (300, -22, 22, 12, 9), (408, -16, 28, 11, 8))),  # IVC
    (150, OTHER, ((404, 5, 24, 7, 7), (450, 30, 18, 6, 6), (540, 52, -28, 6, 6),
                  (600, 60, -50, 6, 6))),  # left iliac artery
    (150, OTHER, ((404, -5, 24, 7, 7), (450, -30, 18, 6, 6), (540, -52, -28, 6, 6),
                  (600, -60, -50, 6, 6))),
    (58, MUSCLE, ((292, 34, 44, 7, 9), (360, 42, 40, 17, 19), (430, 52, 24, 24, 20),
                  (540, 72, -22, 20, 18), (600, 80, -30, 18, 18))),  # left psoas
    (58, MUSCLE, ((292, -34, 44, 7, 9), (360, -42, 40, 17, 19), (430, -52, 24, 24, 20),
                  (540, -72, -22, 20, 18), (600, -80, -30, 18, 18))),
)  # fmt: skip
# Small vessels that fork from a root within an ellipsoid: root, centre, half axes, direction (mean,
# spread), trunks, their radius, and whether the other side has them too. Millimetres.
TREES = {
    "lung": ((38, 4, 115), (66, 0, 115), (60, 86, 124), (0.9, 0, 0.15), (0.8, 0.9, 1.3), 13, 4.4,
             True),
    "liver": ((-22, -6, 272), (-62, -4, 268), (70, 76, 80), (-0.8, 0, -0.2), (0.6, 0.9, 0.9), 6,
              4.2, False),
    "mesentery": ((6, 2, 320), (0, -12, 385), (104, 60, 100), (0, -0.5, 0.7), (1.2, 0.6, 0.8), 14,
                  2.8, False),
}  # fmt: skip


def cut_organs(organs: Iterable[Organ], z: float) -> list[Section]:
    """The sections of organs at height z (nominal mm)."""
    parts = []
    for organ in organs:
        t = (z - organ.top) / (organ.bottom - organ.top)
        if not 0 < t < 1:
            continue
        swell = (1 - abs(2 * t - 1) ** organ.blunt) ** 0.5
        rx, ry = organ.rx * swell, organ.ry * swell
        if min(rx, ry) < 0.5:
            continue
        place = (organ.x + organ.drift_x * t, organ.y + organ.drift_y * t)
        parts.append(
            Section(
                *place, rx, ry, organ.hu, organ.tissue, organ.angle, organ.wobble,
                organ.phase + z / 45, shell=organ.wall, shell_hu=organ.wall_hu,
            )
        )  # fmt: skip
    return parts


def cut_tubes(z: float, phase: float) -> list[Section]:
    """The sections of the great vessels and of the psoas at height z (nominal mm)."""
    parts = []
    for hu, tissue, knots in TUBES:
        if knots[0][0] <= z <= knots[-1][0]:
            heights, *curves = np.array(knots).T
            x, y, rx, ry = (float(np.interp(z, heights, curve)) for curve in curves)
            parts.append(Section(x, y, rx, ry, hu, tissue, 0, 0.04, phase + z / 40))
    return parts


def grow_tree(
    rng: np.random.Generator,
    root: tuple[float, float, float],
    centre: tuple[float, float, float],
    half_axes: tuple[float, float, float],
    mean: tuple[float, float, float],
    spread: tuple[float, float, float],
    trunks: int,
    trunk_radius: float,
    mirrored: bool,
) -> np.ndarray:
    """[n, 7] segments (two ends and radius, mm) of vessels that fork until they are thin."""
    segments = []
    for side in (-1, 1) if mirrored else (1,):
        flip = np.array([side, 1, 1])
        start = root * flip + rng.normal(0, 5, (trunks, 3))
        direction = mean * flip + rng.normal(0, 1, (trunks, 3)) * spread
        radius = np.full(trunks, trunk_radius)
        while len(start):  # a generation of branches at a time
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            end = start + direction * rng.uniform(12, 22, (len(start), 1))
            inside = (((end - centre * flip) / half_axes) ** 2).sum(axis=1) <= 1
            segments.append(np.column_stack([start, end, radius])[inside])
            forks = np.where(rng.random(len(start)) < 0.7, 2, 1) * (inside & (radius > 0.9))
            start = np.repeat(end, forks, axis=0)
            direction = np.repeat(direction, forks, axis=0) + rng.normal(0, 0.36, start.shape)
            radius = np.repeat(radius, forks) * rng.uniform(0.66, 0.86, len(start))
    return np.concatenate(segments)


def cut_tree(segments: np.ndarray, hu: float, z: float) -> list[Section]:
    """The sections of a tree's segments [n, 7] at height z (nominal mm)."""
    low = np.minimum(segments[:, 2], segments[:, 5])
    high = np.maximum(segments[:, 2], segments[:, 5])
    parts = []
    for x0, y0, z0, x1, y1, z1, radius in segments[(low <= z) & (z < high)].tolist():
        t = (z - z0) / (z1 - z0)
        run = math.hypot(x1 - x0, y1 - y0)
        # A round vessel cut obliquely: an ellipse along its run, no longer than itself.
        rx = min(radius * math.hypot(run, z1 - z0) / abs(z1 - z0), 0.5 * run + radius)
        x, y = x0 + t * (x1 - x0), y0 + t * (y1 - y0)
        parts.append(Section(x, y, rx, radius, hu, 0, math.atan2(y1 - y0, x1 - x0)))
    return parts
