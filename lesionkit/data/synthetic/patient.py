"""One synthetic patient in memory: CT series with lesions, and vessels that look like them.

On a key slice a lesion and a vessel are drawn from one distribution of place, size, shape and HU;
only then chance decides which is which. A lesion ends a few millimetres above and below, a vessel
runs on through the slices, so that context alone tells them apart.
"""

from dataclasses import dataclass

import numpy as np

from lesionkit.data.synthetic.anatomy import Anatomy, draw_anatomy
from lesionkit.data.synthetic.findings import KEY_GAP, Finding, place_findings
from lesionkit.data.synthetic.sections import Axis, Section, make_axis, paint

RANGE = 30.0  # mm of slices kept on each side of a key slice, as in DeepLesion
# Heights (mm, top to bottom) that key slices are drawn from, and how often.
REGIONS = ((55, 110, 0.2), (110, 185, 0.18), (215, 290, 0.24), (290, 400, 0.22), (420, 540, 0.16))
INTERVALS = ((5.0, 0.6), (1.0, 0.24), (2.5, 0.08), (2.0, 0.08))  # mm between slices, how often


@dataclass(frozen=True, eq=False)
class SyntheticSeries:
    """One CT series and the truth about it.

    Attributes:
        hu: [S, H, W] int16, head to feet; hu[0] is slice number ``first_slice``.
        spacing: mm, (x, y, z). origin: patient mm of the centre of the first pixel (x, y) and of
            slice number 0 (z).
        lesions: every lesion; each is annotated on its own key slice and crosses no other one.
        vessels: the tubes that look like lesions on a key slice.
        body: half axes of the body (mm), around which x = y = 0.
    """

    study: int
    series: int
    hu: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    first_slice: int
    lesions: tuple[Finding, ...]
    vessels: tuple[Finding, ...]
    body: tuple[float, float]

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """0-based pixel (x, y) of points [n, 2] in patient mm."""
        return (points - np.array(self.origin[:2])) / np.array(self.spacing[:2])


def generate_patient(patient: int, seed: int = 0, image_size: int = 512) -> list[SyntheticSeries]:
    """The series of one patient, two or three key slices in all. Same arguments, same bytes."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(patient,)))
    body = draw_anatomy(rng)
    plans = [(2,), (2,), (1, 1), (1, 1), (1, 2)][rng.integers(5)]
    studies = np.cumsum([1, *rng.integers(0, 2, len(plans) - 1)])
    made = []
    for study, keys in zip(studies.tolist(), plans, strict=True):
        number = 1 + sum(series.study == study for series in made)
        made.append(_series(rng, body, study, number, keys, image_size))
    return made


def _series(
    rng: np.random.Generator,
    body: Anatomy,
    study: int,
    series: int,
    keys: int,
    image_size: int,
) -> SyntheticSeries:
    interval = float(rng.choice([i for i, _ in INTERVALS], p=[share for _, share in INTERVALS]))
    gap, margin = round(KEY_GAP / interval), round(RANGE / interval)
    first = int(rng.integers(1, 30 + 150 // interval))
    key_slices = [first + margin + gap * number for number in range(keys)]
    while True:  # rarely, no tissue of the plane has room for a lesion and a vessel
        top, bottom, _ = REGIONS[rng.choice(len(REGIONS), p=[share for *_, share in REGIONS])]
        zero = rng.uniform(top, bottom) * body.size - interval * key_slices[0]
        findings: list[Finding] = []
        for key in key_slices:
            findings += place_findings(rng, body, key, zero + interval * key, findings, keys > 1)
        if {f.key_slice for f in findings} == set(key_slices):
            break
    last = key_slices[-1] + margin
    heights = zero + interval * np.arange(first, last + 1)
    reach = max(body.body(z)[0] for z in heights)
    view = float(np.clip(2 * reach * rng.uniform(1.03, 1.15), 0.6 * 512, 0.95 * 512))
    spacing = view / image_size
    corner = rng.normal(0, 4, 2) - (view - spacing) / 2
    hu = _render(rng, body, findings, heights, interval, corner, spacing, image_size)
    return SyntheticSeries(
        study=study,
        series=series,
        hu=hu,
        spacing=(spacing, spacing, interval),
        origin=(float(corner[0]), float(corner[1]), zero),
        first_slice=first,
        lesions=tuple(f for f in findings if not f.vessel),
        vessels=tuple(f for f in findings if f.vessel),
        body=body.body(float(heights.mean())),
    )


def _render(
    rng: np.random.Generator,
    body: Anatomy,
    findings: list[Finding],
    heights: np.ndarray,
    interval: float,
    corner: np.ndarray,
    spacing: float,
    image_size: int,
) -> np.ndarray:
    """[S, H, W] int16 HU of the slices at ``heights`` (mm).

    A slice is blended from two planes around it: the profile of a real slice, and at 1 mm half
    the work.
    """
    step = 2.5 if interval >= 2.5 else 2.0
    lowest = heights[0] - min(interval, step) / 2
    position = (heights - lowest) / step
    below = np.floor(position + 1e-9).astype(int)
    share = np.float32(position - below)
    xs, ys = (make_axis(first, spacing, image_size) for first in corner)
    edge = max(1.5, 1.1 * spacing)
    air = _table(body.body(float(heights.mean())), xs, ys, edge)
    planes: dict[int, np.ndarray] = {}

    def plane(number: int) -> np.ndarray:
        if number not in planes:
            z = lowest + step * number
            canvas = air.copy()
            for section in body.sections(z):
                paint(canvas, section, xs, ys, edge)
            for section in filter(None, (finding.section(z) for finding in findings)):
                paint(canvas, section, xs, ys, edge)
            planes[number] = canvas
        return planes[number]

    noise = _noise_fields(rng, 6, image_size, spacing, finest=3.6)
    mottle = _noise_fields(rng, 2, image_size, spacing, finest=14.0)
    level = {1.0: 13.0, 2.0: 10.0, 2.5: 9.0, 5.0: 8.0}[interval] * rng.uniform(0.75, 1.15)
    half_x, half_y = body.body(float(heights.mean()))
    # Photons are fewest behind the most tissue: noise is highest in the middle of the body.
    depth = (xs.points / half_x) ** 2 + (ys.points[:, None] / half_y) ** 2
    level = np.float32(level) * (np.float32(0.35) + np.float32(0.75) * np.exp(-depth))
    texture = np.interp(np.arange(-1100, 3100), _TEXTURE_HU, _TEXTURE).astype(np.float32)
    hu = np.empty((len(heights), image_size, image_size), np.int16)
    for i, z in enumerate(heights):
        picture = plane(below[i]) * (1 - share[i])
        picture += plane(below[i] + 1) * share[i]
        planes.pop(below[i] - 1, None)
        turn = z / 9.0  # two fields in quadrature: a texture that changes over about 10 mm
        grain = mottle[0] * np.float32(np.cos(turn)) + mottle[1] * np.float32(np.sin(turn))
        grain *= texture[picture.astype(np.int16) + 1100]
        picture += grain
        shift = rng.integers(0, image_size, 2)
        picture += level * np.roll(noise[rng.integers(len(noise))], shift, (0, 1))
        hu[i] = np.clip(np.rint(picture), -1024, 3071)
    return hu


# How strongly tissue of a given HU is mottled.
_TEXTURE_HU = (-1000, -920, -800, -300, -140, -60, 20, 140, 200, 500)
_TEXTURE = (0, 22, 22, 8, 6, 6, 4, 5, 16, 20)


def _table(body: tuple[float, float], xs: Axis, ys: Axis, edge: float) -> np.ndarray:
    """[h, w] air and the table's thin cradle behind the patient."""
    canvas = np.full((ys.size, xs.size), -1000, np.float32)
    for depth, hu in ((30, -450), (28, -940), (8, -450), (6, -1000)):
        paint(canvas, Section(0, 0, body[0] + 40 + depth, body[1] + depth, hu), xs, ys, edge)
    canvas[ys.points < 0.55 * body[1]] = -1000
    return canvas


def _noise_fields(
    rng: np.random.Generator, count: int, size: int, spacing: float, finest: float
) -> np.ndarray:
    """[count, size, size] float32 periodic random fields of unit variance.

    Their power rises with frequency and falls beyond 1 / ``finest`` mm, as that of filtered back
    projection does: grainy, neither white nor blotchy.
    """
    frequency = np.hypot(np.fft.fftfreq(size, spacing)[:, None], np.fft.rfftfreq(size, spacing))
    power = frequency * np.exp(-((frequency * finest) ** 2) * 2)
    spectrum = np.fft.rfft2(rng.standard_normal((count, size, size), dtype=np.float32))
    fields = np.fft.irfft2(spectrum * np.sqrt(power), s=(size, size)).astype(np.float32)
    return fields / fields.std(axis=(1, 2), keepdims=True)
