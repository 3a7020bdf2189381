import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from bnrecal.networks.head import NMS_IOU, boxes_and_logits, cell_centres, detections, suppress


def random_boxes(n_images: int, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes that overlap a lot, and labels of three classes."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n_images, n, 2, generator=generator) * 20
    side = 5 + torch.rand(n_images, n, 2, generator=generator) * 20
    labels = torch.randint(0, 3, (n_images, n), generator=generator)
    return torch.cat([corner, corner + side], -1), labels


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
def test_bulk_suppression_equals_torchvision(n_images: int, n: int, seed: int) -> None:
    """Image by image and class by class, the same boxes survive as in torchvision's nms."""
    boxes, labels = random_boxes(n_images, n, seed)
    scores = torch.arange(n, 0, -1).float()
    keep = suppress(boxes, labels)
    for image in range(n_images):
        expected = batched_nms(boxes[image], scores, labels[image], NMS_IOU)
        assert keep[image].nonzero().flatten().tolist() == sorted(expected.tolist())


def test_a_cell_predicts_distances_to_the_four_sides() -> None:
    """Cell (row 2, column 5) of the grid, log distances log 1/8 .. : the box they describe."""
    raw = torch.zeros(1, 14, 8, 8)
    raw[0, 4:] = -20
    wanted = torch.tensor([4.0, 10.0, 12.0, 6.0])  # left, top, right, bottom in pixels
    raw[0, :4, 2, 5] = (wanted / 8).log()
    raw[0, 4 + 7, 2, 5] = 20
    boxes, logits = boxes_and_logits(raw)
    assert cell_centres(8, 8)[2 * 8 + 5].tolist() == [44, 20]
    assert torch.allclose(boxes[0, 21], torch.tensor([40.0, 10.0, 56.0, 26.0]))
    assert logits.shape == (1, 64, 10)
    found = detections(raw)
    best = found.scores.argmax()
    assert found.labels[best] == 7
    assert found.boxes[best].round(3).tolist() == [40, 10, 16, 16]


def test_detections_of_a_batch_are_those_of_its_images() -> None:
    """Decoding in bulk changes no image's boxes."""
    raw = torch.randn(5, 14, 8, 8, generator=torch.Generator().manual_seed(1))
    together = detections(raw)
    for image in range(5):
        alone = detections(raw[image : image + 1])
        mine = together.image == image
        assert (together.scores[mine] == alone.scores).all()
        assert (together.boxes[mine] == alone.boxes).all()
