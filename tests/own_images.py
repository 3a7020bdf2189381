"""Writes the scenes of `tiny` as the folders and files that users have: COCO, VOC, class folders, CSV."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from bnrecal import tasks
from bnrecal.metrics.boxes import GroundTruth
from bnrecal.tasks.garments import Garments

SETTINGS = ("--image-size", "64", "--channels", "1", "--preprocess", "model", "--order", "order.txt")


def tiny() -> Garments:
    task = tasks.get("tiny")
    assert isinstance(task, Garments)
    return task


def scenes(task: Garments, split: str) -> tuple[np.ndarray, GroundTruth]:
    """(pixels (images, height, width), objects) of "train" or "val"."""
    if split == "train":
        ids = np.arange(task.n_calibration)
        return task.calibration_images(ids)[:, 0], task.calibration_truth(ids)
    return task.evaluation_images(0, task.n_evaluation)[:, 0], task.evaluation_truth()


def write_images(folder: Path, split: str, pixels: np.ndarray, extension: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{split}_{k:03}{extension}" for k in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(folder / name)
    return names


def write_order(path: Path, task: Garments, extension: str) -> None:
    """The order of seed 0 as a list of file names."""
    path.write_text("".join(f"train_{k:03}{extension}\n" for k in task.order(0)))


def write_coco(root: Path, extension: str = ".png") -> tuple[object, ...]:
    """root/images and root/{train,val}.json; returns the options of a sweep over them."""
    task = tiny()
    for split in ("train", "val"):
        pixels, truth = scenes(task, split)
        names = write_images(root / "images", split, pixels, extension)
        images = [{"id": 10 + k, "file_name": n, "width": 64, "height": 64} for k, n in enumerate(names)]
        annotations = [
            {
                "id": k + 1,
                "image_id": 10 + int(image),
                "category_id": 3 * int(label) + 1,
                "bbox": box.tolist(),
                "iscrowd": 0,
                "area": float(box[2] * box[3]),
            }
            for k, (image, box, label) in enumerate(zip(truth.image, truth.boxes, truth.labels, strict=True))
        ]
        categories = [{"id": 3 * k + 1, "name": name} for k, name in enumerate(task.classes)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(document))
    write_order(root / "order.txt", task, extension)
    places = (
        "--images",
        root / "images",
        "--calibration",
        root / "train.json",
        "--evaluation",
        root / "val.json",
    )
    return ("--task", "coco", *places, *SETTINGS[:-1], root / "order.txt")


def write_voc(root: Path, extension: str = ".png") -> tuple[object, ...]:
    """root/{JPEGImages,Annotations} and id lists; returns the options of a sweep over them."""
    task = tiny()
    (root / "Annotations").mkdir(parents=True)
    for split in ("train", "val"):
        pixels, truth = scenes(task, split)
        names = write_images(root / "JPEGImages", split, pixels, extension)
        for k, name in enumerate(names):
            objects = "".join(
                f"<object><name>{escape(task.classes[label])}</name><difficult>0</difficult><bndbox>"
                f"<xmin>{x + 1:g}</xmin><ymin>{y + 1:g}</ymin><xmax>{x + w:g}</xmax><ymax>{y + h:g}</ymax>"
                "</bndbox></object>"
                for (x, y, w, h), label in zip(
                    truth.boxes[truth.image == k], truth.labels[truth.image == k], strict=True
                )
            )
            size = "<size><width>64</width><height>64</height><depth>1</depth></size>"
            text = f"<annotation>{size}{objects}</annotation>"
            (root / "Annotations" / f"{Path(name).stem}.xml").write_text(text)
        (root / f"{split}.txt").write_text("".join(f"{Path(name).stem}\n" for name in names))
    write_order(root / "order.txt", task, extension)
    places = ("--images", root, "--calibration", root / "train.txt", "--evaluation", root / "val.txt")
    classes = ("--classes", ",".join(task.classes))
    return ("--task", "voc", *places, *classes, *SETTINGS[:-1], root / "order.txt")


def write_class_folders(
    root: Path, n: int = 24, size: int = 20, classes: tuple[str, ...] = ("cat", "dog")
) -> None:
    """root/{train,val}/CLASS/*.png: classes differ by brightness, so that they can be told apart."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for k, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                shape = (size + i % 3, size + 2, 3)
                Image.fromarray((rng.integers(0, 100, shape) + 100 * k).astype(np.uint8)).save(
                    folder / f"{i:02}.png"
                )


def folder_options(root: Path) -> tuple[object, ...]:
    sets = ("--calibration", root / "train", "--evaluation", root / "val")
    return ("--task", "imagefolder", *sets, "--image-size", "16")
