"""What all tasks on the user's own images share: two sets, their pixels, their order, their digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.draws import permutation, stream_key
from bnrecal.data.image_cache import BadImageError, ImageCache
from bnrecal.data.image_source import ImageSource
from bnrecal.data.normalisations import words
from bnrecal.data.preprocessing import Preprocessing
from bnrecal.errors import BnrecalError
from bnrecal.tasks.task import Int64s, OnDecoded

if TYPE_CHECKING:
    from torch import Tensor


class Annotated(Protocol):
    """What readers give (data/labelled.py): images, classes, and what stands on them."""

    @property
    def source(self) -> ImageSource: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def facts(self) -> bytes:
        """Labels or boxes as bytes."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """(pixels / 255 - mean) / std, a value or one per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: "Tensor") -> "Tensor":
        import torch

        mean, std = (
            torch.tensor([255.0 * v for v in values], device=images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return images.float().sub_(mean).div_(std)


class ImageTask:
    """The part of `Task` that does not know what is on the images.

    `order_from` is "random", "file" or the path of a list of images. Images that cannot be decoded are an
    error when they are first read; with `skip_bad` all are tried at once and the bad ones left out.
    """

    metric: str

    def __init__(
        self,
        name: str,
        calibration: Annotated,
        evaluation: Annotated,
        preprocessing: Preprocessing,
        normalisation: Normalisation,
        order_from: str = "random",
        skip_bad: bool = False,
    ) -> None:
        self.name, self.classes = name, calibration.classes
        self.calibration, self.evaluation = calibration, evaluation
        self.preprocessing, self.normalisation = preprocessing, normalisation
        self.input_shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
        self.to_calibrate = ImageCache(calibration.source, preprocessing)
        self.to_evaluate = ImageCache(evaluation.source, preprocessing)
        self.usable = _listed(order_from, calibration.source)
        self.evaluated = np.arange(len(evaluation.source))
        self.random_order = order_from == "random"
        self.note: str | None = None
        if skip_bad:
            self._leave_out_bad()
        self.n_calibration, self.n_evaluation = len(self.usable), len(self.evaluated)

    @property
    def resolved(self) -> dict[str, Any]:
        """Fields of `Inputs` with which the same pixels and the same normalisation are opened again."""
        how, scale = self.preprocessing, self.normalisation
        found = {"channels": how.channels, "mean": scale.mean, "std": scale.std}
        if how.transforms is not None:
            return found
        size = (how.height, how.width)
        return {"image_size": size, "fit": how.fit, "interpolation": how.interpolation, **found}

    @property
    def prepared(self) -> str:
        """How an image becomes input: "images 64x64, ..., (pixels / 255 - mean) / std with mean 0, std 1"."""
        how = self.preprocessing
        size = f"{how.height}x{how.width}"
        if how.transforms is not None:
            shape = f"{size} by {how.transforms}"
        elif how.fit == "stretch":
            shape = f"{size} (stretched, {how.interpolation})"
        else:
            shape = f"{size} (cropped from {how.resize or min(how.height, how.width)}, {how.interpolation})"
        channels = "1 channel" if how.channels == 1 else f"{how.channels} channels"
        scale = words((self.normalisation.mean, self.normalisation.std))
        return f"images {shape}, {channels}, (pixels / 255 - mean) / std with {scale}"

    def _leave_out_bad(self) -> None:
        bad: list[BadImageError] = []
        for kind, cache in (("usable", self.to_calibrate), ("evaluated", self.to_evaluate)):
            positions = getattr(self, kind)
            found = cache.bad_images(positions)
            setattr(self, kind, positions[~np.isin(positions, [error.position for error in found])])
            bad += found
        if bad:
            first = str(bad[0]).partition("; mend it")[0]
            images = "1 image" if len(bad) == 1 else f"{len(bad)} images"
            self.note = f"{images} left out, the first: {first}"
        if not len(self.usable) or not len(self.evaluated):
            raise BnrecalError(f"--skip-bad-images: no image of task {self.name} is left")

    def data_digest(self) -> str:
        """Of names, labels, preprocessing and the evaluation images' content."""
        found = hashlib.sha256(
            f"{self.metric} {self.classes} {self.preprocessing} {self.normalisation}".encode()
        )
        found.update(self.preprocessing.code_digest().encode())
        for annotated in (self.calibration, self.evaluation):
            names = (annotated.source.name(k) for k in range(len(annotated.source)))
            found.update("\0".join(names).encode("utf-8", "surrogateescape"))
            found.update(annotated.facts())
        found.update(self.usable.astype("<i8").tobytes())
        found.update(self.to_evaluate.digests(self.evaluated).tobytes())
        return found.hexdigest()[:16]

    def order(self, seed: int) -> Int64s:
        if not self.random_order:
            return self.usable
        return self.usable[permutation(stream_key("image-order", seed), len(self.usable))]

    def order_digest(self, ids: Int64s) -> str:
        content = self.to_calibrate.digests(ids).tobytes()
        return hashlib.sha256(ids.astype("<i8").tobytes() + content).hexdigest()[:16]

    def prepare(self, ids: Int64s, on_decoded: OnDecoded) -> int:
        n = self.to_evaluate.prepare(self.evaluated, on_decoded)
        return n + self.to_calibrate.prepare(ids, on_decoded)

    def calibration_images(self, ids: Int64s) -> NDArray[np.uint8]:
        return self.to_calibrate.pixels(ids)

    def evaluation_images(self, start: int, stop: int) -> NDArray[np.uint8]:
        return self.to_evaluate.pixels(self.evaluated[start:stop])

    def evaluation_images_at(self, places: Int64s) -> NDArray[np.uint8]:
        return self.to_evaluate.pixels(self.evaluated[places])

    def to_input(self, images: "Tensor") -> "Tensor":
        return self.normalisation.apply(images)


def _listed(order_from: str, source: ImageSource) -> Int64s:
    """Positions of the images that may calibrate, in the file's order or in that of the user's list."""
    if order_from in ("random", "file"):
        return np.arange(len(source))
    path = Path(order_from)
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except OSError as error:
        raise BnrecalError(
            f"--order: cannot read {path}: {error.strerror}; allowed: random, file, or a list of images"
        ) from None
    except UnicodeDecodeError:
        raise BnrecalError(f"--order: {path} is no list of images, one a line") from None
    position = {source.name(k): k for k in range(len(source))}
    found: dict[int, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            continue
        if name not in position:
            raise BnrecalError(f"--order: {path} line {number}: {name!r} is not among the calibration images")
        if position[name] in found:
            raise BnrecalError(f"--order: {path} line {number}: {name!r} stands there twice")
        found[position[name]] = number
    if not found:
        raise BnrecalError(f"--order: {path} names no image")
    return np.array(list(found), np.int64)
