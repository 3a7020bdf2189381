"""From an image file to uint8 pixels of one size: evaluation transforms only, named and recorded.

Normalisation is not here: it happens on the device, after the pixels were read from the cache.
"""

import functools
import hashlib
import random
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnrecal.data.user_code import code_of, imported
from bnrecal.errors import BnrecalError

Pixels = NDArray[np.uint8]  # (channels, height, width)

VIEWS = 16  # of one image, to see whether a transform is random: one flip in two hides once in 32,768


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes pixels.

    fit "crop" resizes the shorter side to `resize` and takes the centre; "stretch" resizes both sides.
    Interpolation is antialiased, by torchvision on Pillow images. `transforms` ("module:name") replaces
    all that: a callable from a Pillow RGB or grey image to a Pillow image or a uint8 array or tensor of
    shape (channels, height, width).
    """

    channels: int
    height: int
    width: int
    fit: str = "crop"
    resize: int | None = None  # pixels; None: the shorter side of the result
    interpolation: str = "bilinear"
    transforms: str | None = None
    random_transforms: bool = False  # allowed: each image then keeps the one view drawn for it

    @property
    def n_bytes(self) -> int:
        """Of one image's pixels."""
        return self.channels * self.height * self.width

    def digest(self) -> str:
        facts = repr(sorted(asdict(self).items())) + self.code_digest()
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def code_digest(self) -> str:
        """Of the user's transform: the file that names it and what it prints as; "" without one.

        An edited transform makes other pixels under the same name. What that file imports is not seen.
        """
        if self.transforms is None:
            return ""
        printed = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(user_transform(self.transforms)))
        code = code_of(self.transforms)
        return hashlib.sha256(printed.encode("utf-8", "surrogatepass") + code).hexdigest()[:16]

    def decode(self, data: bytes | NDArray[np.uint8]) -> tuple[Pixels, tuple[int, int]]:
        """(pixels, (width, height) before resizing) of a file's content, or of a decoded image.

        Raises OSError, ValueError or Image.DecompressionBombError for what is not a whole image.
        """
        image = _opened(data, self.channels)
        if self.transforms is not None:
            pixels = self._by_user(image, seed=data if self.random_transforms else None)
        else:
            pixels = _channels_first(np.asarray(self._fitted(image)))
        if pixels.shape != (self.channels, self.height, self.width):
            want = (self.channels, self.height, self.width)
            raise BnrecalError(f"--transforms: gives {pixels.shape}, others gave {want}; one size is needed")
        return pixels, image.size

    def _fitted(self, image: Any) -> Any:
        from torchvision.transforms import functional
        from torchvision.transforms.functional import InterpolationMode

        how = InterpolationMode(self.interpolation)
        if self.fit == "stretch":
            if image.size == (self.width, self.height):
                return image
            return functional.resize(image, [self.height, self.width], how)
        shorter = self.resize or min(self.height, self.width)
        if min(image.size) != shorter:
            image = functional.resize(image, [shorter], how)
        if image.size == (self.width, self.height):
            return image
        return functional.center_crop(image, [self.height, self.width])

    def _by_user(self, image: Any, seed: bytes | NDArray[np.uint8] | None) -> Pixels:
        name = self.transforms or ""
        if seed is None:
            return _view(name, image)
        return _seeded(lambda: _view(name, image), bytes(seed))


def _opened(data: bytes | NDArray[np.uint8], channels: int) -> Any:
    """A Pillow image in the mode of so many channels."""
    from PIL import Image

    image = _loaded(data) if isinstance(data, bytes) else Image.fromarray(data)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels of mode {image.mode!r} are no picture")
        image = Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))  # 16 bits to 8
    return image.convert("L" if channels == 1 else "RGB")


def _loaded(data: bytes) -> Any:
    from PIL import Image

    try:
        image: Any = Image.open(BytesIO(data))
        if image.format == "EPS":
            raise ValueError("EPS is a program, which Pillow would have Ghostscript run")
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:  # Pillow's readers raise what they like on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return image


def _channels_first(array: NDArray[Any]) -> Pixels:
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


@functools.cache
def user_transform(name: str) -> Callable[[Any], Any]:
    """The callable "module:name" stands for."""
    found = imported(name, "--transforms")
    if not callable(found):
        raise BnrecalError(f"--transforms: {name} is a {type(found).__name__}, not a callable of one image")
    return found  # type: ignore[no-any-return]


def _view(name: str, image: Any) -> Pixels:
    """What the user's transform makes of an image; what it raises is no fault of the image."""
    transform = user_transform(name)
    try:
        result = transform(image)
    except BnrecalError:
        raise
    except Exception as error:
        raise BnrecalError(f"--transforms: {name} raised {type(error).__name__}: {error}") from error
    return _uint8(result, name)


def _uint8(result: Any, name: str) -> Pixels:
    """What a user's transform gave as pixels."""
    from PIL import Image

    if isinstance(result, Image.Image):
        return _channels_first(np.asarray(result.convert("L" if result.mode in ("L", "1") else "RGB")))
    array = np.asarray(result)
    if array.dtype != np.uint8 or array.ndim != 3:
        raise BnrecalError(
            f"--transforms: {name} gives {array.dtype} of shape {array.shape}; allowed: a Pillow image or "
            "uint8 (channels, height, width); leave normalisation to --mean and --std"
        )
    return np.ascontiguousarray(array)


def _seeded(draw: Callable[[], Pixels], content: bytes) -> Pixels:
    """`draw` with the usual generators seeded by the image's content, and put back afterwards.

    The generators are the process's own, so one thread draws at a time.
    """
    import torch

    seed = int.from_bytes(hashlib.sha256(content).digest()[:4], "little")
    with _ONE_DRAW:
        before = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
                return draw()
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


_ONE_DRAW = threading.Lock()


def fault_of(sample: bytes | NDArray[np.uint8]) -> str | None:
    """What keeps this from being an image; None if it is one."""
    from PIL import Image

    try:
        _opened(sample, 3)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return str(error).split(" <")[0] or type(error).__name__
    return None


def check_not_random(name: str, sample: bytes | NDArray[np.uint8], channels: int) -> None:
    """Refuse a transform that is random by its parts' names or gives two views of one image.

    Each of VIEWS is drawn with a seed of its own, so that the answer is the same each time.
    """
    transform = user_transform(name)
    parts = [type(part).__name__ for part in _parts(transform)]
    drawn = [
        part for part in parts if part.startswith(("Random", "AutoAugment", "ColorJitter", "TrivialAug"))
    ]
    image = _opened(sample, channels)
    views = [_seeded(lambda: _view(name, image.copy()), bytes([k])) for k in range(VIEWS)]
    if drawn or any(view.shape != views[0].shape or (view != views[0]).any() for view in views):
        what = f"({', '.join(drawn)})" if drawn else "(two views of one image differ)"
        raise BnrecalError(
            f"--transforms: {name} is random {what}; statistics belong to evaluation transforms; "
            "--allow-random-transforms uses one fixed view of each image"
        )


def _parts(transform: Any) -> list[Any]:
    """The transform and, if it is made of others, those."""
    inner = getattr(transform, "transforms", ())
    return [transform, *(p for part in inner for p in _parts(part))] if inner else [transform]


def shape_of(name: str, sample: bytes | NDArray[np.uint8], channels: int) -> tuple[int, int, int]:
    """(channels, height, width) of what a user's transform gives for this image."""
    shape = _view(name, _opened(sample, channels)).shape
    return (shape[0], shape[1], shape[2])
