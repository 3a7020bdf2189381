"""From `Inputs` to a task on the user's own images: readers, defaults, and which option goes where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bnrecal.data.class_folders import read_class_folders
from bnrecal.data.coco_boxes import read_coco
from bnrecal.data.csv_list import read_csv_list
from bnrecal.data.labelled import BoxedImages, LabelledImages
from bnrecal.data.normalisations import BY_TASK, GREY, IMAGENET
from bnrecal.data.preprocessing import Preprocessing, check_not_random, fault_of, shape_of
from bnrecal.data.torchvision_sets import SETS, read_torchvision_set
from bnrecal.data.voc_boxes import read_voc
from bnrecal.errors import BnrecalError
from bnrecal.study.inputs import Inputs
from bnrecal.tasks.classification import Classification
from bnrecal.tasks.detection import Detection
from bnrecal.tasks.image_task import Normalisation
from bnrecal.tasks.task import Task


def open_class_folders(inputs: Inputs) -> Task:
    calibration = read_class_folders(_path(inputs, "calibration"), "--calibration", inputs.classes)
    evaluation = read_class_folders(_path(inputs, "evaluation"), "--evaluation", calibration.classes)
    return _classification(inputs, calibration, evaluation)


def open_csv(inputs: Inputs) -> Task:
    root = Path(inputs.images) if inputs.images is not None else None
    calibration = read_csv_list(_path(inputs, "calibration"), root, "--calibration", inputs.classes)
    evaluation = read_csv_list(_path(inputs, "evaluation"), root, "--evaluation", calibration.classes)
    return _classification(inputs, calibration, evaluation)


def open_torchvision_set(inputs: Inputs) -> Task:
    root = _path(inputs, "data")
    sets = [read_torchvision_set(inputs.task, root, train) for train in (True, False)]
    return _classification(inputs, *sets)


def open_coco(inputs: Inputs) -> Task:
    root = _path(inputs, "images")

    def read(option: str, classes: tuple[str, ...] | None) -> BoxedImages:
        path = _path(inputs, option)
        return read_coco(path, root, f"--{option}", classes)

    calibration = read("calibration", inputs.classes)
    return _detection(inputs, calibration, read("evaluation", calibration.classes))


def open_voc(inputs: Inputs) -> Task:
    root = _path(inputs, "images")

    def read(option: str, classes: tuple[str, ...] | None) -> BoxedImages:
        path = _path(inputs, option)
        return read_voc(path, root, f"--{option}", classes)

    calibration = read("calibration", inputs.classes)
    return _detection(inputs, calibration, read("evaluation", calibration.classes))


FILES = ("calibration", "evaluation")
# task -> (how it is opened, its metric, which options say where its images are)
OPENERS: dict[str, tuple[Callable[[Inputs], Task], str, tuple[str, ...]]] = {
    "imagefolder": (open_class_folders, "top1", FILES),
    "csv": (open_csv, "top1", (*FILES, "images")),
    "fashion-mnist": (open_torchvision_set, "top1", ("data",)),
    "cifar10": (open_torchvision_set, "top1", ("data",)),
    "coco": (open_coco, "map50", (*FILES, "images")),
    "voc": (open_voc, "map50", (*FILES, "images")),
}
_PLACES = ("calibration", "evaluation", "images", "data")
_SHAPING = (
    "image_size",
    "fit",
    "resize",
    "interpolation",
    "channels",
    "mean",
    "std",
    "transforms",
    "classes",
)


def check_places(inputs: Inputs, taken: tuple[str, ...]) -> None:
    """Refuse an option that says where images are to a task that has no use for it."""
    for name in _PLACES:
        if name not in taken and getattr(inputs, name) is not None:
            if not taken:
                raise BnrecalError(
                    f"--{name}: task {inputs.task} brings its images along; for your own give --task, one of "
                    f"{', '.join(task for task in OPENERS if name in OPENERS[task][2])}"
                )
            ways = ", ".join(f"--{n}" for n in taken)
            raise BnrecalError(f"--{name}: task {inputs.task} does not use it; it takes {ways}")


def check_unshaped(inputs: Inputs) -> None:
    """Refuse every option about images to a task that brings its own."""
    check_places(inputs, ())
    for name in _SHAPING:
        if getattr(inputs, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise BnrecalError(f"{flag}: task {inputs.task} brings its images along as they are")
    if inputs.order != "random":
        raise BnrecalError(f"--order: task {inputs.task} draws its order from --seed")


def _path(inputs: Inputs, name: str) -> Path:
    value = getattr(inputs, name)
    if value is None:
        missing = [f"--{n}" for n in OPENERS[inputs.task][2] if _is_missing(inputs, n)]
        if inputs.image_size is None and inputs.transforms is None and inputs.task not in SETS:
            missing.append("--image-size (or --preprocess model)")
        raise BnrecalError(f"--{name}: task {inputs.task} needs {', '.join(missing)}")
    return Path(value)


def _is_missing(inputs: Inputs, name: str) -> bool:
    """Whether this place of images is not given; a list may name whole paths."""
    return getattr(inputs, name) is None and (inputs.task, name) != ("csv", "images")


def _classification(inputs: Inputs, calibration: LabelledImages, evaluation: LabelledImages) -> Task:
    return Classification(
        inputs.task,
        calibration,
        evaluation,
        _preprocessing(inputs, calibration, "crop"),
        _normalisation(inputs),
        inputs.order,
        inputs.skip_bad_images,
    )


def _detection(inputs: Inputs, calibration: BoxedImages, evaluation: BoxedImages) -> Task:
    if inputs.fit == "crop" or inputs.resize is not None or inputs.transforms is not None:
        raise BnrecalError(
            "--fit, --resize, --transforms: boxes follow the image only when it is stretched; "
            f"task {inputs.task} takes --image-size alone"
        )
    return Detection(
        inputs.task,
        calibration,
        evaluation,
        _preprocessing(inputs, calibration, "stretch"),
        _normalisation(inputs),
        inputs.order,
        inputs.skip_bad_images,
    )


def _channels(inputs: Inputs) -> int:
    if inputs.channels is not None:
        return inputs.channels
    return SETS[inputs.task][1] if inputs.task in SETS else 3


def _preprocessing(inputs: Inputs, images: LabelledImages | BoxedImages, fit: str) -> Preprocessing:
    channels = _channels(inputs)
    if inputs.transforms is not None:
        return _by_user(inputs, inputs.transforms, images, channels)
    size = inputs.image_size
    if size is None and inputs.task in SETS:
        size = (SETS[inputs.task][2],) * 2
    if size is None:
        raise BnrecalError(
            f"--image-size: task {inputs.task} needs it, such as 224 or 240x320 (height x width); "
            "--preprocess model takes the model's own"
        )
    if inputs.resize is not None and inputs.resize < min(size):
        raise BnrecalError(f"--resize: {inputs.resize} is less than the crop of {size[0]}x{size[1]}")
    return Preprocessing(
        channels, *size, inputs.fit or fit, inputs.resize, inputs.interpolation or "bilinear"
    )


def _by_user(inputs: Inputs, name: str, images: LabelledImages | BoxedImages, channels: int) -> Preprocessing:
    shaping = (inputs.image_size, inputs.fit, inputs.resize, inputs.interpolation)
    if any(value is not None for value in shaping):
        raise BnrecalError(
            "--transforms: replaces --image-size, --fit, --resize and --interpolation; give one or the other"
        )
    sample = _sample(images, inputs.skip_bad_images)
    if not inputs.allow_random_transforms:
        check_not_random(name, sample, channels)
    found, height, width = shape_of(name, sample, channels)
    if found != channels:
        raise BnrecalError(f"--transforms: {name} gives {found} channels, --channels says {channels}")
    return Preprocessing(
        channels, height, width, transforms=name, random_transforms=inputs.allow_random_transforms
    )


def _sample(images: LabelledImages | BoxedImages, skip_bad: bool) -> Any:
    """The content of the first image, or with `skip_bad` of the first that is one."""
    for position in range(len(images.source)):
        content = images.source.content(position)
        fault = fault_of(content)
        if fault is None:
            return content
        if not skip_bad:
            name = images.source.name(position)
            raise BnrecalError(f"{name}: not a whole image: {fault}; mend it or use --skip-bad-images")
    raise BnrecalError("--skip-bad-images: no image to calibrate with is left")


def _normalisation(inputs: Inputs) -> Normalisation:
    channels = _channels(inputs)
    usual: Any = BY_TASK.get(inputs.task, IMAGENET if channels == 3 else GREY)
    mean, std = inputs.mean or usual[0], inputs.std or usual[1]
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            given = getattr(inputs, option[2:]) is not None
            if given:
                raise BnrecalError(
                    f"{option}: {len(values)} values for {channels} channels; give 1 or {channels}"
                )
    if len(mean) not in (1, channels) or len(std) not in (1, channels):  # a habit for other channels
        mean, std = (tuple([float(np.mean(v))] * channels) for v in (mean, std))
    return Normalisation(tuple(mean), tuple(std))
