"""The published grid put together from public parts, cell by cell, the way one would write it first.

    python experiments/bench/plain_study.py OUT.json [number of cells]

For every cell by itself: reset, then for each batch a train-mode forward (PyTorch's own moving
average) and an evaluation forward for the update metric, torchvision's NMS, pycocotools with its
twelve figures for update and for eval. Written fairly: images in memory as channels-last tensors,
inference mode, evaluation in batches of 64. Prints seconds per part; writes the figures and the total.
"""

import itertools
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from bnrecal import networks, tasks
from bnrecal.metrics.coco import coco_figures
from bnrecal.networks.head import N_CANDIDATES, NMS_IOU, boxes_and_logits
from bnrecal.study.study import make_study
from bnrecal.tasks.garments import Garments

Boxes = list[dict[str, Any]]


class Clock:
    """Adds up seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def take(self, part: str, started: float) -> float:
        now = time.perf_counter()
        self.seconds[part] += now - started
        return now


def found_in(raw: Tensor, first_image: int) -> Boxes:
    """COCO results of a batch: best candidates of each image, NMS by class, all by torchvision."""
    boxes, logits = boxes_and_logits(raw)
    scores, best = logits.sigmoid().flatten(1).topk(N_CANDIDATES)
    labels, cells = best % logits.shape[-1], best // logits.shape[-1]
    results: Boxes = []
    for k in range(len(raw)):
        mine = boxes[k, cells[k]]
        keep = batched_nms(mine, scores[k], labels[k], NMS_IOU)
        corners = mine[keep].double()
        corners[:, 2:] -= corners[:, :2]
        for box, label, score in zip(
            corners.tolist(), labels[k, keep].tolist(), scores[k, keep].tolist(), strict=True
        ):
            results.append(
                {"image_id": first_image + k, "category_id": label + 1, "bbox": box, "score": score}
            )
    return results


def ground_truth(n: int, objects: tuple[Any, ...]) -> dict[str, Any]:
    """A COCO document of n images."""
    annotations = [
        {
            "id": k,
            "image_id": int(image),
            "category_id": int(label) + 1,
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for k, (image, box, label) in enumerate(zip(*objects, strict=True), 1)
    ]
    categories = [{"id": c} for c in range(1, 11)]
    return {"images": [{"id": i} for i in range(n)], "annotations": annotations, "categories": categories}


@torch.inference_mode()
def run_cell(
    arch: str, batch_size: int, n: int, x: Tensor, held_out: Tensor, task: Garments, clock: Clock
) -> tuple[float, float]:
    """(update, eval) of one cell."""
    model = networks.get().build(arch).module.to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 0.1
    seen: Boxes = []
    for start in range(0, n, batch_size):
        batch = x[start : start + batch_size]
        t = time.perf_counter()
        model.train()
        model(batch)
        t = clock.take("update forward", t)
        model.eval()
        raw = model(batch)
        t = clock.take("evaluation forward of update", t)
        seen += found_in(raw, start)
        clock.take("decode and NMS", t)
    t = time.perf_counter()
    ids = task.order(0)[:n]
    update = coco_figures(ground_truth(n, task.training_scenes.objects(ids)), seen)["AP50"]
    t = clock.take("pycocotools", t)
    model.eval()
    found: Boxes = []
    for start in range(0, len(held_out), 64):
        t = time.perf_counter()
        raw = model(held_out[start : start + 64])
        t = clock.take("evaluation forward", t)
        found += found_in(raw, start)
        clock.take("decode and NMS", t)
    t = time.perf_counter()
    n_val = task.n_evaluation
    truth = ground_truth(n_val, task.validation_scenes.objects(np.arange(n_val)))
    figure = coco_figures(truth, found)["AP50"]
    clock.take("pycocotools", t)
    return update, figure


def main(out: Path, limit: int | None) -> None:
    task = tasks.get("garments")
    assert isinstance(task, Garments)
    study = make_study({})
    started, clock = time.perf_counter(), Clock()

    def tensor(images: Any) -> Tensor:
        return task.to_input(torch.from_numpy(images)).to(memory_format=torch.channels_last)

    x = tensor(task.calibration_images(task.order(0)[: max(study.samples)]))
    held_out = tensor(task.evaluation_images(0, task.n_evaluation))
    figures = []
    cells = list(itertools.product(study.bs, study.samples, study.arch))[:limit]
    for batch_size, n, arch in cells:
        update, evaluated = run_cell(arch, batch_size, n, x, held_out, task, clock)
        figures.append([batch_size, n, arch, update, evaluated])
        print(f"{arch} bs {batch_size} n {n}: update {update:.4f} eval {evaluated:.4f}", flush=True)
    total = time.perf_counter() - started
    for part, seconds in clock.seconds.items():
        print(f"{part:30} {seconds:8.1f} s")
    print(f"{'total':30} {total:8.1f} s")
    out.write_text(json.dumps({"total_s": total, "figures": figures, "parts": clock.seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
