"""What the head's numbers mean: raw grid outputs to boxes, and bulk non-maximum suppression."""

import torch
from torch import Tensor

from bnrecal.metrics.boxes import Detections
from bnrecal.networks.supernet import GRID_STRIDE

_MAX_LOG_DISTANCE = 4.0  # exp(4) strides: far beyond any image, and finite


def cell_centres(height: int, width: int) -> Tensor:
    """Centre of each grid cell in pixels, row by row; shape (cells, 2) as x y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * GRID_STRIDE


def boxes_and_logits(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split raw outputs (images, 4 + classes, height, width) into boxes and class logits.

    Boxes (images, cells, 4) as x1 y1 x2 y2 in pixels: a cell predicts the log distance, in strides,
    from its centre to the four sides. Logits (images, cells, classes).
    """
    centres = cell_centres(*raw.shape[-2:]).to(raw.device)
    flat = raw.flatten(2).transpose(1, 2)  # (images, cells, outputs)
    distance = flat[..., :4].clamp(max=_MAX_LOG_DISTANCE).exp() * GRID_STRIDE
    boxes = torch.cat([centres - distance[..., :2], centres + distance[..., 2:]], -1)
    return boxes, flat[..., 4:]


N_CANDIDATES = 32  # best (cell, class) pairs of an image that suppression looks at
NMS_IOU = 0.6


def detections(raw: Tensor) -> Detections:
    """Final detections of a batch of raw outputs (images, 4 + classes, height, width)."""
    boxes, logits = boxes_and_logits(raw.float())
    n_classes = logits.shape[-1]
    scores, best = logits.sigmoid().flatten(1).topk(min(N_CANDIDATES, logits[0].numel()))
    labels = best % n_classes
    boxes = boxes.gather(1, (best // n_classes)[..., None].expand(-1, -1, 4))
    keep = suppress(boxes, labels)
    image = torch.arange(len(raw), device=raw.device)[:, None].expand_as(keep)[keep]
    corners = boxes[keep].double()
    corners[:, 2:] -= corners[:, :2]  # x1 y1 x2 y2 -> x y w h
    return Detections(
        image.cpu().numpy(),
        corners.cpu().numpy(),
        labels[keep].cpu().numpy(),
        scores[keep].double().cpu().numpy(),
    )


def suppress(boxes: Tensor, labels: Tensor) -> Tensor:
    """Greedy non-maximum suppression of all images at once; a mask (images, candidates) to keep.

    boxes (images, candidates, 4) as x1 y1 x2 y2, best first; labels (images, candidates). A box goes
    if a better one of its class that stays overlaps it by more than NMS_IOU. Gives what
    torchvision.ops.nms gives image by image and class by class, in `candidates` steps instead of
    images x classes calls.
    """
    n = boxes.shape[1]
    corners = boxes.permute(2, 1, 0).contiguous()  # (4, candidates, images): a step reads whole rows
    low, high = corners[:2], corners[2:]
    size = high - low
    area = size[0] * size[1]
    label = labels.T.contiguous()
    keep = torch.ones_like(label, dtype=torch.bool)
    for i in range(n - 1):
        later = slice(i + 1, n)
        side = torch.minimum(high[:, i, None], high[:, later]) - torch.maximum(low[:, i, None], low[:, later])
        side = side.clamp_(min=0)
        shared = side[0] * side[1]
        rival = shared > NMS_IOU * (area[i] + area[later] - shared)
        keep[later] &= ~(rival & (label[later] == label[i]) & keep[i])
    return keep.T.contiguous()
