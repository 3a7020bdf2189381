"""Two folders of class folders, as torchvision's ImageFolder reads them."""

import os
from pathlib import Path

from bnrecal.data.image_source import Files
from bnrecal.data.labelled import LabelledImages, class_indices
from bnrecal.errors import BnrecalError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def read_class_folders(root: Path, option: str, classes: tuple[str, ...] | None) -> LabelledImages:
    """Every image below root/CLASS/; classes are the folders' names, sorted, unless given.

    Raises BnrecalError for a missing folder, no class folder, no image, and a class not in `classes`.
    """
    if not os.path.isdir(root):
        raise BnrecalError(f"{option}: {root} is no folder; allowed: a folder with a folder per class")
    try:
        folders = sorted(f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    except OSError as error:
        raise BnrecalError(f"{option}: {root} cannot be read: {error.strerror}") from None
    if not folders:
        raise BnrecalError(f"{option}: {root} has no class folders; its images belong into root/CLASS/")

    def unreadable(error: OSError) -> None:
        raise BnrecalError(f"{option}: {error.filename} cannot be read: {error.strerror}")

    names, labels = [], []
    for folder in folders:
        for where, inner, files in os.walk(root / folder, onerror=unreadable, followlinks=True):
            inner.sort()
            _refuse_loops(where, inner, option)
            found = [f for f in sorted(files) if f.lower().endswith(EXTENSIONS) and not f.startswith(".")]
            names += [(Path(where) / f).relative_to(root).as_posix() for f in found]
            labels += [folder] * len(found)
    if not names:
        raise BnrecalError(
            f"{option}: no image in the class folders of {root}; known: {' '.join(EXTENSIONS)}"
        )
    wanted = tuple(folders) if classes is None else classes
    indices = class_indices(labels, wanted, f"{option} {root}", names)
    empty = tuple(sorted(set(folders) - set(labels))) if classes is None else ()
    return LabelledImages(Files(root, names, f"{option} {root}"), indices, wanted, empty)


def _refuse_loops(where: str, folders: list[str], option: str) -> None:
    """A link to a folder that it lies in would give each image many times."""
    for name in folders:
        path = os.path.join(where, name)
        if os.path.islink(path) and Path(os.path.realpath(where)).is_relative_to(os.path.realpath(path)):
            raise BnrecalError(f"{option}: {path} is a link to a folder that it lies in; remove it")
