"""A parametric human torso for synthetic CT: anatomy as ellipses of an axial plane.

Coordinates are millimetres of the patient: x to the patient's left (image right), y to the back,
z to the feet, with z = 0 at the top of the lungs. Every structure is a function of z that gives
`Section`s; later sections are painted over earlier ones.
"""

import math
from dataclasses import dataclass

import numpy as np

from lesionkit.data.synthetic.organs import (
    ABDOMINAL_ORGANS,
    CHEST_ORGANS,
    LIVER,
    LUNG,
    MARROW,
    MEDIASTINUM,
    MUSCLE,
    OTHER,
    SUBCUTANEOUS,
    TISSUE_HU,
    TREES,
    VISCERAL_FAT,
    Organ,
    cut_organs,
    cut_tree,
    cut_tubes,
    grow_tree,
)
from lesionkit.data.synthetic.sections import Section

# Half axes (mm) of the body cavity against z, and the share of the fat under the skin there.
CAVITY_Z = np.array([-60, -20, 20, 60, 120, 200, 280, 350, 420, 500, 600.0])
CAVITY_X = np.array([80, 92, 110, 121, 129, 132, 130, 126, 126, 128, 122.0])
CAVITY_Y = np.array([55, 62, 74, 84, 92, 97, 95, 88, 84, 84, 80.0])
FAT_SHARE = np.array([0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.9, 1.1, 1.2, 1.3, 1.3])
VERTEBRA = 27.0  # mm from one disc to the next
RIB_DROP = 112.0  # mm that a rib descends from the spine to the front


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One patient's torso, drawn from ``rng``; `sections` gives an axial plane of it."""

    size: float
    fat: float  # mm under the skin where it is thickest
    hu: dict[int, float]
    chest: tuple[Organ, ...]
    abdomen: tuple[Organ, ...]
    trees: dict[str, np.ndarray]  # small vessels: [n, 7], two ends (x, y, z) and radius
    phase: float  # of the outlines of the wall

    def body(self, z: float) -> tuple[float, float]:
        """Half axes (mm) of the skin at height z (mm)."""
        z /= self.size
        fat = self.fat * np.interp(z, CAVITY_Z, FAT_SHARE)
        rx, ry = _cavity(z)
        return (rx + 19 + fat) * self.size, (ry + 17 + 0.8 * fat) * self.size

    def sections(self, z: float) -> list[Section]:
        """What crosses the plane at height z (mm), in the order of painting."""
        z /= self.size
        parts = self._wall(z)
        if z < 285:
            parts += self._chest(z)
        if z > 176:
            parts += self._abdomen(z)
        parts += cut_tubes(z, self.phase) + self._spine(z)
        if z > 395:
            parts += self._pelvis(z)
        s = self.size
        return [
            Section(x * s, y * s, rx * s, ry * s, *look, shell * s, shell_hu)
            for x, y, rx, ry, *look, shell, shell_hu in parts
        ]

    def _wall(self, z: float) -> list[Section]:
        rx, ry = _cavity(z)
        fat = self.fat * np.interp(z, CAVITY_Z, FAT_SHARE)
        turn = self.phase + 0.004 * z
        muscle, fat_hu = self.hu[MUSCLE], self.hu[VISCERAL_FAT]
        parts = [
            Section(
                0, 0, rx + 19 + fat, ry + 17 + 0.8 * fat, self.hu[SUBCUTANEOUS], SUBCUTANEOUS,
                0, 0.012, turn, 0.35, shell=2, shell_hu=10,
            ),
            Section(0, 0, rx + 19, ry + 14, muscle, MUSCLE, boxy=0.3),
            *_pair(33, ry + 1, 31, 19, muscle, MUSCLE, angle=-0.15, wobble=0.06, phase=turn),
        ]  # fmt: skip
        if z > 270:  # fat parts the layers of the abdominal wall, and its two sides in front
            parts += _pair(rx + 10, -6, 1.2, 46, fat_hu, OTHER, angle=0.1)
            parts += _pair(0.42 * rx, -0.95 * ry - 6, 1.6, 9, fat_hu, OTHER)
            parts.append(Section(0, -ry - 8, 5, 8, fat_hu, OTHER))
        if z > 215:
            parts.append(Section(0, 0, rx, ry, fat_hu, VISCERAL_FAT, boxy=0.2))
        return parts

    def _chest(self, z: float) -> list[Section]:
        rx, ry = _cavity(z)
        parts = []
        if z > -8:  # the lungs narrow to the top
            apex = min((z + 12) / 60, 1.0) ** 0.5
            parts += _pair(
                0.5 * rx, 0, 0.49 * rx * apex, 0.96 * ry * apex, self.hu[LUNG], LUNG, boxy=0.45,
            )  # fmt: skip
        width = np.interp(z, (0, 60, 110, 130, 220), (46, 36, 36, 30, 30))
        fat = self.hu[MEDIASTINUM]
        parts.append(Section(0, 2, width, ry * 0.93, fat, MEDIASTINUM, 0, 0.08, 0.6 + z / 90))
        parts += cut_tree(self.trees["lung"], 30, z)
        parts += cut_organs(self.chest, z)
        if z < 135:  # shoulder blades in their muscles
            muscle = self.hu[MUSCLE]
            parts += _pair(
                96, 0.74 * ry, 40, 19, muscle, MUSCLE, angle=-0.7, wobble=0.08, phase=z / 60
            )
            parts += _pair(97, 0.76 * ry, 30, 3.5, 420, OTHER, angle=-0.75)
        parts += self._ribs(z, rx, ry)
        sternum = 17 + 4 * math.sin(z / 25)
        parts.append(Section(0, -ry - 5, sternum, 5.5, 130, OTHER, shell=2.5, shell_hu=330))
        return parts

    def _abdomen(self, z: float) -> list[Section]:
        rx, ry = _cavity(z)
        parts = []
        # The diaphragm: two domes that rise into the lungs, then the whole cavity.
        for x, y, width, depth, top, bottom, tissue in (
            (-63, -4, 66, 0.9 * ry, 176, 240, LIVER),
            (62, 2, 63, 0.85 * ry, 200, 262, VISCERAL_FAT),
            (0, -8, rx, ry, 222, 286, VISCERAL_FAT),
        ):
            grown = (z - top) / (bottom - top)
            if grown > 0.01 and z < 286:
                swell = math.sqrt(1 - max(1 - grown, 0) ** 2)
                grown = min(grown, 1.0)
                parts.append(
                    Section(
                        x * min(1.0, 0.7 + grown), y * (1 - grown), width * swell, depth * swell,
                        self.hu[tissue], tissue, 0, 0.03, 0.4, 0.2 * grown, shell=2,
                        shell_hu=self.hu[MUSCLE],
                    )
                )  # fmt: skip
        parts += cut_tree(self.trees["mesentery"], 110, z)
        liver = [organ for organ in self.abdomen if organ.tissue == LIVER]
        others = [organ for organ in self.abdomen if organ.tissue != LIVER]
        parts += cut_organs(liver, z) + cut_tree(self.trees["liver"], self.hu[LIVER] + 45, z)
        return parts + cut_organs(others, z)

    def _pelvis(self, z: float) -> list[Section]:
        muscle, fat = self.hu[MUSCLE], self.hu[SUBCUTANEOUS]
        bone = {"tissue": MARROW, "shell": 2.2, "shell_hu": 520}
        grown = min((z - 396) / 60, 1.0)
        parts = _pair(
            84, 62, 58 * grown + 1, 26 * grown + 1, muscle, MUSCLE,
            angle=-0.75, wobble=0.06, phase=z / 50,
        )  # fmt: skip
        # Fat between the gluteal muscles.
        parts += _pair(92, 58, 40 * grown + 1, 1.6, fat, OTHER, angle=-0.75)
        parts += _pair(78, 44, 40 * grown + 1, 1.6, fat, OTHER, angle=-0.9)
        wing = min((z - 396) / 30, (525 - z) / 20, 1.0)
        if wing > 0.1:
            lower = z - 400
            parts += _pair(
                86 - 0.05 * lower, 24, 44 * wing, (8.5 + 0.03 * lower) * wing, self.hu[MARROW],
                angle=-0.95 - 0.001 * lower, wobble=0.05, phase=1.0, **bone,
            )  # fmt: skip
        hip = 1 - ((z - 550) / 46) ** 2
        if hip > 0.05:  # the two columns of the socket, then the femoral head in its gap
            hip = math.sqrt(hip)
            for y, tilt in ((-14, 0.9), (26, -0.9)):
                shape = {"angle": tilt, "wobble": 0.08, "phase": 2.0, **bone}
                parts += _pair(76, y, 20 * hip, 10 * hip, self.hu[MARROW], **shape)
            parts += _pair(95, 4, 27 * hip, 27 * hip, 70, OTHER)
            parts += _pair(95, 4, 24 * hip, 24 * hip, self.hu[MARROW] + 60, **bone)
        sacrum = min((z - 408) / 10, 1.0) * max((520 - z) / 60, 0.0) ** 0.5
        if sacrum > 0.1:
            place = (0, 52 + 0.12 * (z - 410), 48 * min(sacrum, 1), 20 * min(sacrum, 1))
            parts.append(Section(*place, self.hu[MARROW] - 20, wobble=0.09, phase=2.5, **bone))
        return parts

    def _spine(self, z: float) -> list[Section]:
        if z > 425:
            return []
        y = float(np.interp(z, (-60, 60, 150, 300, 420), (44, 58, 62, 52, 50)))
        size = float(np.interp(z, (-60, 200, 400), (0.75, 1.0, 1.25)))
        level = (z / VERTEBRA) % 1.0  # 0..0.2 disc, then the vertebra
        parts = []
        if level < 0.2:
            parts.append(Section(0, y, 19 * size, 14.5 * size, 85, OTHER, wobble=0.04, phase=2.0))
        else:
            waist = size * (1 - 0.09 * math.sin(math.pi * (level - 0.2) / 0.8))
            parts.append(
                Section(
                    0, y, 19 * waist, 14.5 * waist, self.hu[MARROW], MARROW,
                    wobble=0.05, phase=2.0, shell=1.6, shell_hu=480,
                )
            )  # fmt: skip
        back = y + 21 * size
        if 0.3 < level < 0.8:  # pedicles, laminae and the transverse processes
            parts.append(Section(0, back - 1, 15 * size, 12 * size, 480, OTHER))
            parts += _pair(24 * size, back + 4, 14 * size, 4.5 * size, 380, OTHER, angle=0.35)
        else:  # facet joints
            parts += _pair(15 * size, back + 5, 8, 5.5, 430, OTHER, angle=-0.7)
        # The canal: the sac in its fat.
        parts.append(Section(0, back, 10 * size, 8.5 * size, 35, OTHER, shell=1.8, shell_hu=-40))
        parts.append(Section(0, back + 20 * size, 3.2, 12 * size, 360, OTHER))
        if level > 0.85:
            parts.append(Section(0, back + 22 * size, 2.5, 13 * size, self.hu[MUSCLE], OTHER))
        return parts

    def _ribs(self, z: float, rx: float, ry: float) -> list[Section]:
        parts = []
        for number in range(12):
            along = (z - (21.5 * number - 14)) / RIB_DROP  # 0 at the spine, 1 at the front
            longest = 1.0 if number < 8 else 1.0 - 0.17 * (number - 7)
            if not 0.02 < along < longest:
                continue
            theta = math.pi / 2 - (0.24 + 2.62 * along)  # from the back, around the side
            x, y = (rx + 6) * math.cos(theta), (ry + 4) * math.sin(theta)
            tilt = math.atan2((ry + 4) * math.cos(theta), -(rx + 6) * math.sin(theta))
            if along > 0.85:
                parts += _pair(x, y, 13, 4.3, 130, OTHER, angle=tilt, wobble=0.06)  # cartilage
            else:
                parts += _pair(
                    x, y, 13, 4.3, self.hu[MARROW], OTHER,
                    angle=tilt, wobble=0.06, shell=2, shell_hu=480,
                )  # fmt: skip
        return parts


def _cavity(z: float) -> tuple[float, float]:
    return float(np.interp(z, CAVITY_Z, CAVITY_X)), float(np.interp(z, CAVITY_Z, CAVITY_Y))


def _pair(
    x: float, y: float, rx: float, ry: float, hu: float, tissue: int, angle: float = 0, **shape
) -> list[Section]:
    """A section on the patient's left and its mirror image on the right."""
    return [Section(side * x, y, rx, ry, hu, tissue, side * angle, **shape) for side in (1, -1)]


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient: body size, fat, the place, size and HU of each organ, bowel, lung vessels."""
    hu = {tissue: value + rng.normal(0, 5) for tissue, value in TISSUE_HU.items()}
    hu[LUNG] = float(rng.uniform(-890, -830))

    def vary(organ: Organ) -> Organ:
        shift, grow, height = rng.normal(0, 2.0, 2), rng.uniform(0.94, 1.06, 2), rng.normal(0, 5)
        return organ._replace(
            top=organ.top + height,
            bottom=organ.bottom + height,
            x=organ.x + shift[0],
            y=organ.y + shift[1],
            rx=organ.rx * grow[0],
            ry=organ.ry * grow[1],
            hu=hu.get(organ.tissue, organ.hu),
            phase=float(rng.uniform(0, 2 * np.pi)),
        )

    bowel = []
    for _ in range(int(rng.integers(28, 40))):
        middle, radius = rng.uniform(330, 510), rng.uniform(8, 13)
        loop = Organ(
            top=middle - 24,
            bottom=middle + 24,
            x=rng.uniform(-70, 72),
            y=rng.uniform(-62, 0),
            rx=radius * rng.uniform(1, 2.2),
            ry=radius,
            hu=rng.uniform(140, 260),  # contrast medium: no lesion looks like it
            angle=rng.uniform(-1.5, 1.5),
            wobble=0.1,
            blunt=3.0,
            drift_x=rng.normal(0, 12),
            drift_y=rng.normal(0, 8),
            wall=2.5,
            wall_hu=75,
        )
        bowel.append(loop)
    return Anatomy(
        size=float(rng.uniform(0.9, 1.08)),
        fat=float(rng.uniform(9, 30)),
        hu=hu,
        chest=tuple(vary(organ) for organ in CHEST_ORGANS),
        abdomen=tuple(vary(organ) for organ in (*ABDOMINAL_ORGANS, *bowel)),
        trees={name: grow_tree(rng, *tree) for name, tree in TREES.items()},
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
