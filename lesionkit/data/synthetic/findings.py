"""The lesions of a synthetic patient, and the vessels that look like them on one slice."""

from dataclasses import dataclass

import numpy as np

from lesionkit.data.synthetic.anatomy import Anatomy
from lesionkit.data.synthetic.organs import (
    KIDNEY,
    LIVER,
    LUNG,
    MARROW,
    MEDIASTINUM,
    MUSCLE,
    SPLEEN,
    SUBCUTANEOUS,
    VISCERAL_FAT,
)
from lesionkit.data.synthetic.sections import Section, make_axis, paint_label

KEY_GAP = 36.0  # mm between two key slices of one series: more than any lesion is high
REACH = 18.0  # mm above and below its key slice over which a vessel stays in its host
CLEARANCE = 4.0  # mm between neighbouring findings
MIN_RADIUS, MAX_RADIUS = 5.5, 16.0  # mm

# Host tissue: DeepLesion's lesion type (8, pelvis, for fat below PELVIS_TOP), how often it is
# chosen, and the HU that a lesion differs by, low to high.
HOSTS = {
    LUNG: (5, 3.0, (830.0, 900.0)),
    MEDIASTINUM: (3, 4.0, (130.0, 165.0)),
    LIVER: (4, 4.0, (-75.0, -45.0)),
    SPLEEN: (2, 0.7, (-75.0, -45.0)),
    KIDNEY: (6, 3.0, (-170.0, -120.0)),
    VISCERAL_FAT: (2, 3.0, (130.0, 165.0)),
    MUSCLE: (7, 0.25, (55.0, 85.0)),
    SUBCUTANEOUS: (7, 0.5, (110.0, 165.0)),
    MARROW: (1, 0.6, (-165.0, -110.0)),
}
PELVIS_TOP = 425.0


@dataclass(frozen=True)
class Finding:
    """A lesion or a vessel. Millimetres of the patient, as in `lesionkit.data.synthetic.anatomy`.

    Attributes:
        vessel: a tube through many slices; otherwise a lesion.
        host: tissue that it lies in, a key of `HOSTS`.
        key: its cross-section on the key slice.
        key_slice, key_z: number and height of the key slice.
        middle: height of its middle. half_height: from there to its upper and lower end.
        sway: (x, y) amplitude of a vessel's curve. pitch: mm along z per radian of the curve.
        contrast: HU of the finding less the HU of its host.
    """

    vessel: bool
    host: int
    lesion_type: int
    key: Section
    key_slice: int
    key_z: float
    middle: float
    half_height: float
    sway: tuple[float, float]
    pitch: float
    contrast: float

    def section(self, z: float) -> Section | None:
        """The cross-section at height z, or None above and below it."""
        t = abs(z - self.middle) / self.half_height
        if t >= 1:
            return None
        if self.vessel:
            grow = min(1.0, 3.0 * (1 - t)) ** 0.5  # of the last third of each half only
        else:
            off = (self.key_z - self.middle) / self.half_height
            grow = ((1 - t * t) / (1 - off * off)) ** 0.5
        turn = np.sin((z - self.key_z) / self.pitch)
        return self.key._replace(
            x=self.key.x + self.sway[0] * turn,
            y=self.key.y + self.sway[1] * turn,
            rx=self.key.rx * grow,
            ry=self.key.ry * grow,
            phase=self.key.phase + (z - self.key_z) / 25,
        )


def place_findings(
    rng: np.random.Generator,
    body: Anatomy,
    key_slice: int,
    key_z: float,
    others: list[Finding],
    shared: bool,
) -> list[Finding]:
    """Lesions and vessels around one key slice, in one or two tissues that have room for both."""
    from scipy.ndimage import distance_transform_edt

    step = 3.0
    axis = make_axis(-204.0, step, 137)
    labels = np.zeros((7, axis.size, axis.size), np.uint8)
    for plane, z in zip(labels, key_z + np.linspace(-REACH, REACH, len(labels)), strict=True):
        for section in body.sections(z):
            if section.tissue:
                paint_label(plane, section, axis, axis)
    grid_x, grid_y = np.meshgrid(axis.points, axis.points)
    order = list(HOSTS)
    share = np.array([HOSTS[host][1] for host in order])
    order = [order[i] for i in rng.choice(len(order), len(order), False, p=share / share.sum())]
    placed: list[Finding] = []
    hosts = 0
    for host in order:
        # Room: mm to the nearest point that is not of this tissue in every plane up to REACH.
        room = distance_transform_edt((labels == host).all(axis=0)) * step - step / 2
        kept = [*others, *placed]
        here: list[Finding] = []
        for _ in range(3):
            for finding in (*kept, *here):
                away = np.hypot(grid_x - finding.key.x, grid_y - finding.key.y)
                taken = max(finding.key.rx, finding.key.ry) + np.hypot(*finding.sway) + CLEARANCE
                room = np.minimum(room, away - taken)
            found = _draw(rng, host, room, axis.points, key_slice, key_z, body, shared)
            if found is None:
                break
            here.append(found)
        if len(here) < 2:
            continue
        if hosts == 0 or rng.random() < 0.35:
            chosen = int(rng.integers(len(here)))
            here[chosen] = _as_lesion(rng, here[chosen])
        placed += here
        hosts += 1
        if hosts == 2:
            break
    return placed


def _draw(
    rng: np.random.Generator,
    host: int,
    room: np.ndarray,
    axis: np.ndarray,
    key_slice: int,
    key_z: float,
    body: Anatomy,
    shared: bool,
) -> Finding | None:
    """A vessel of random size where ``room`` [h, w] (mm) has space for it, or None."""
    radius = MIN_RADIUS * (MAX_RADIUS / MIN_RADIUS) ** rng.random()
    radius = min(radius, room.max() / 1.3 - 1.0)
    if radius < MIN_RADIUS:
        return None
    spots = np.argwhere(room >= 1.3 * radius + 1.0)
    row, column = spots[rng.integers(len(spots))]
    lesion_type, _, (low, high) = HOSTS[host]
    if host == VISCERAL_FAT and key_z > PELVIS_TOP * body.size:
        lesion_type = 8
    contrast = rng.uniform(low, high)
    aspect = rng.uniform(1.0, 1.25)
    slack = min(room[row, column] - 1.3 * radius, 0.5 * radius)
    direction = rng.uniform(0, 2 * np.pi)
    section = Section(
        x=float(axis[column] + rng.uniform(-0.5, 0.5)),
        y=float(axis[row] + rng.uniform(-0.5, 0.5)),
        rx=radius * aspect**0.5,
        ry=radius / aspect**0.5,
        hu=body.hu[host] + contrast,
        angle=float(rng.uniform(0, np.pi)),
        wobble=float(rng.uniform(0.02, 0.09)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )
    length = rng.uniform(24, 45)
    return Finding(
        vessel=True,
        host=host,
        lesion_type=lesion_type,
        key=section,
        key_slice=key_slice,
        key_z=key_z,
        middle=key_z,
        # The end of a vessel must not pass for a lesion on the series' other key slice.
        half_height=min(length, KEY_GAP - 12.0) if shared else length,
        sway=(slack * np.cos(direction), slack * np.sin(direction)),
        pitch=float(rng.uniform(12, 24)),
        contrast=contrast,
    )


def _as_lesion(rng: np.random.Generator, vessel: Finding) -> Finding:
    half_height = min(vessel.key.rx, vessel.key.ry) * rng.uniform(0.75, 1.05)
    return Finding(
        **{
            **vars(vessel),
            "vessel": False,
            "sway": (0.0, 0.0),
            "half_height": half_height,
            "middle": vessel.key_z + half_height * rng.uniform(-0.25, 0.25),
        }
    )
