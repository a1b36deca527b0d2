"""FROC from its definition, one box and one lesion at a time, in plain Python numbers."""

import numpy as np

FALSE_POSITIVE, HIT, DUPLICATE = 0, 1, 2


def overlap_of(box, lesion, kind):
    (x1, y1, x2, y2), (a1, b1, a2, b2) = box, lesion
    width, height = min(x2, a2) - max(x1, a1) + 1, min(y2, b2) - max(y1, b1) + 1
    shared = max(width, 0) * max(height, 0)
    own = max(x2 - x1 + 1, 0) * max(y2 - y1 + 1, 0)
    whole = own if kind == "iobb" else own + (a2 - a1 + 1) * (b2 - b1 + 1) - shared
    return shared / whole if whole > 0 else 0.0


def walk(detections, ground_truth, threshold, mode="hold", overlap="iou"):
    """Points of the curve as (false positives, lesions found), and the status of every box."""
    listed = [
        (i, j, [float(v) for v in box])
        for i, image in enumerate(detections)
        for j, box in enumerate(image)
    ]
    listed.sort(key=lambda entry: -entry[2][4])  # Python's sort is stable
    hit = [[False] * len(image) for image in ground_truth]
    status = [[None] * len(image) for image in detections]
    misses = hits = 0
    points = []
    for i, j, box in listed:
        overlaps = [overlap_of(box[:4], lesion, overlap) for lesion in ground_truth[i].tolist()]
        met = [k for k, value in enumerate(overlaps) if value >= threshold]
        new = [k for k in met if not hit[i][k]]
        if mode == "strict":
            new = sorted(new, key=lambda k: -overlaps[k])[:1]
            met = new
        for k in new:
            hit[i][k] = True
        status[i][j] = HIT if new else DUPLICATE if met else FALSE_POSITIVE
        hits, misses = hits + len(new), misses + (not met)
        points.append((misses, hits))
    return points, status


def as_curve(points, images, lesions):
    return [(misses / images, hits / lesions) for misses, hits in points]


def read(curve, rate, mode):
    if not curve:
        return 0.0
    return extrapolate(curve, rate) if mode == "3dce" else hold(curve, rate)


def hold(curve, rate):
    if rate < curve[0][0]:
        return 0.0
    x0, y0 = [point for point in curve if point[0] <= rate][-1]
    right = [point for point in curve if point[0] > rate]
    if not right:
        return y0
    x1, y1 = right[0]
    return (y1 - y0) / (x1 - x0) * (rate - x0) + y0


def extrapolate(curve, rate):
    """The line through the points on both sides, or the two at the end, as SciPy chooses them."""
    last = len(curve) - 1
    right = next((i for i, point in enumerate(curve) if point[0] >= rate), last)
    right = max(right, 1)
    (x0, y0), (x1, y1) = curve[right - 1] if last else curve[0], curve[min(right, last)]
    if x1 > x0:
        return (y1 - y0) / (x1 - x0) * (rate - x0) + y0
    # Vertical: what was found before the first false positive that reaches the rate.
    before = [y for x, y in curve if x < rate or x == 0]
    return max(before, default=0.0)


def random_case(seed):
    """Small grids and few scores: equal scores, duplicates, empty images, overlaps of exactly 1/2,
    inverted boxes, and in some cases no lesion at all.
    """
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.integers(0, 6, (count, 2))
        return np.hstack([corner, corner + rng.integers(0, 5, (count, 2))])

    detections, ground_truth = [], []
    for _ in range(rng.integers(1, 6)):
        found = boxes(rng.integers(0, 9)).astype(float)
        if seed % 3 == 0:
            found[:, :2] -= rng.random((len(found), 2))
        if seed % 7 == 0:
            found[:, 2:] -= rng.integers(0, 4, (len(found), 2))
        scores = rng.integers(0, rng.choice([2, 5, 1000]), len(found)) / 7
        detections.append(np.column_stack([found, scores]).astype(np.float32))
        ground_truth.append(boxes(rng.integers(0, 4) if seed % 25 else 0).astype(np.float32))
    return detections, ground_truth
