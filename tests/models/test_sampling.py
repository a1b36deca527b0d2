import torch

from lesionkit.models.sampling import match, sample

TRUTH = torch.tensor([[0.0, 0, 10, 10]])


def boxes_of_width(*widths):
    """Boxes inside TRUTH: IoU = width / 10."""
    return torch.tensor([[0.0, 0, w, 10] for w in widths])


def test_thresholds():
    labels, index = match(TRUTH, boxes_of_width(7, 6.9, 3, 2.9, 0), high=0.7, low=0.3)
    assert labels.tolist() == [1, -1, -1, 0, 0]
    assert index.tolist() == [0] * 5


def test_best_box_of_each_truth_is_positive_with_its_ties():
    labels, _ = match(TRUTH, boxes_of_width(2, 1, 2), high=0.7, low=0.3, best_of_each=True)
    assert labels.tolist() == [1, 0, 1]


def test_truth_that_nothing_overlaps_makes_no_positive():
    far = torch.tensor([[500.0, 500, 510, 510]])
    for truth in (far, torch.cat((TRUTH, far))):
        labels, _ = match(truth, boxes_of_width(1, 2, 0), 0.7, 0.3, best_of_each=True)
        assert labels.tolist() == ([0, 0, 0] if len(truth) == 1 else [0, 1, 0])


def test_index_is_the_best_truth():
    truth = torch.cat((TRUTH, TRUTH + 100))
    labels, index = match(truth, torch.cat((TRUTH + 101, TRUTH)), high=0.5, low=0.5)
    assert labels.tolist() == [1, 1]
    assert index.tolist() == [1, 0]


def test_without_truth_all_are_negative():
    labels, index = match(torch.zeros(0, 4), boxes_of_width(1, 2), 0.7, 0.3, best_of_each=True)
    assert labels.tolist() == [0, 0]
    assert index.tolist() == [0, 0]


def test_without_boxes():
    labels, index = match(TRUTH, torch.zeros(0, 4), 0.7, 0.3, best_of_each=True)
    assert labels.shape == index.shape == (0,)


def test_sample_counts():
    labels = torch.tensor([1] * 30 + [0] * 100 + [-1] * 20)
    positive, negative = sample(labels, 32, 0.5)
    assert (len(positive), len(negative)) == (16, 16)
    assert (labels[positive] == 1).all()
    assert (labels[negative] == 0).all()
    assert len(set(positive.tolist())) == 16


def test_sample_fills_with_negatives():
    positive, negative = sample(torch.tensor([1] * 3 + [0] * 100), 32, 0.5)
    assert (len(positive), len(negative)) == (3, 29)


def test_sample_of_few():
    positive, negative = sample(torch.tensor([1] * 30 + [0] * 4), 32, 0.25)
    assert (len(positive), len(negative)) == (8, 4)


def test_sample_follows_the_global_generator():
    labels = torch.tensor([0] * 100)
    torch.manual_seed(5)
    first = sample(labels, 8, 0.5)[1]
    second = sample(labels, 8, 0.5)[1]
    torch.manual_seed(5)
    assert torch.equal(sample(labels, 8, 0.5)[1], first)
    assert not torch.equal(first, second)
