"""The anchor-free detection loss: which grid cell answers for which box, and how well it did.

Positives as in FCOS with centre sampling (Tian et al., ICCV 2019): cells inside the box and within
1.5 strides of its centre, the smaller box first. Classes by the quality focal loss (Li et al.,
"Generalized Focal Loss", NeurIPS 2020): the target of the right class is the IoU of the predicted
box. Boxes by 1 - GIoU (Rezatofighi et al., CVPR 2019).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CENTRE_RADIUS = 1.5  # strides


def assign(boxes: Tensor, n_objects: Tensor, centres: Tensor, stride: int) -> Tensor:
    """For each cell the index of the object it answers for, or -1; shape (images, cells).

    boxes (images, most objects, 4) as x1 y1 x2 y2 in pixels, the first `n_objects` of each image
    real; centres (cells, 2) in pixels.
    """
    x, y = centres[:, 0, None], centres[:, 1, None]  # (cells, 1)
    x1, y1, x2, y2 = (b[:, None, :] for b in boxes.unbind(-1))  # (images, 1, objects)
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    near = torch.maximum((x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs())
    real = torch.arange(boxes.shape[1], device=boxes.device) < n_objects[:, None]
    candidate = inside & (near < CENTRE_RADIUS * stride) & real[:, None, :]
    area = ((x2 - x1) * (y2 - y1)).expand_as(candidate)
    smallest, index = area.masked_fill(~candidate, torch.inf).min(-1)
    return index.masked_fill(smallest.isinf(), -1)


def generalized_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(IoU, GIoU) of paired boxes x1 y1 x2 y2; shapes (n, 4) -> (n,), (n,)."""
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    shared, around = overlap.prod(-1), hull.prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    return iou, iou - (around - union) / around.clamp(min=1e-6)


def detection_loss(
    pred_boxes: Tensor, logits: Tensor, boxes: Tensor, labels: Tensor, assigned: Tensor
) -> Tensor:
    """Mean over positive cells of class loss + box loss; a scalar.

    pred_boxes (images, cells, 4) pixels, logits (images, cells, classes), boxes (images, objects, 4),
    labels (images, objects), assigned (images, cells) from `assign`.
    """
    image, cell = (assigned >= 0).nonzero(as_tuple=True)
    n_positive = max(1, len(image))
    of = assigned[image, cell]
    iou, giou = generalized_iou(pred_boxes[image, cell], boxes[image, of])
    quality = torch.zeros_like(logits)
    quality[image, cell, labels[image, of]] = iou.detach()
    miss = (quality - logits.sigmoid()).square()
    class_loss = (miss * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")).sum()
    return (class_loss + 2.0 * (1 - giou).sum()) / n_positive
