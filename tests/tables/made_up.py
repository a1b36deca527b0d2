"""Test images and detections without pixels: what tables are made of."""

from dataclasses import dataclass

import numpy as np

LESION = np.array([10.0, 10, 29, 29])


@dataclass(frozen=True)
class MadeUpLesion:
    lesion_type: int
    diameters_px: tuple[float, float]
    spacing: tuple[float, float, float]

    def diameter_mm(self, axis: str = "long") -> float:
        return self.diameters_px[axis == "short"] * self.spacing[0]

    @property
    def interval(self) -> float:
        return self.spacing[2]


@dataclass(frozen=True)
class MadeUpImage:
    file_name: str
    patient: int
    lesions: tuple[MadeUpLesion, ...]

    @property
    def boxes(self) -> np.ndarray:
        return np.array([LESION + 50 * i for i in range(len(self.lesions))])


def images(patients: int = 20) -> list[MadeUpImage]:
    """Two images a patient, one lesion each; livers in even patients, lungs in odd ones."""
    return [
        MadeUpImage(
            f"{patient:06d}_01_01_{key:03d}.png",
            patient,
            (MadeUpLesion(4 + patient % 2, (8.0 + patient, 7.0), (1.0, 1.0, 5.0 if key else 1.0)),),
        )
        for patient in range(patients)
        for key in (0, 1)
    ]


def detections(records: list[MadeUpImage], share: float, seed: int) -> list[np.ndarray]:
    """For each image [n, 5]: about ``share`` of the lesions, and two boxes elsewhere."""
    rng = np.random.default_rng(seed)
    found = []
    for record in records:
        hits = [[*box, rng.uniform(0.3, 1)] for box in record.boxes if rng.random() < share]
        misses = [[*(LESION + 200 + 40 * i), rng.uniform(0, 0.7)] for i in range(2)]
        found.append(np.array([*hits, *misses]))
    return found
