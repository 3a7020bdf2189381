"""Pixels against torchvision's own transforms, and images in odd modes."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torchvision.transforms import v2

from bnrecal.data.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 255, (67, 101, 3), np.uint8).repeat(3, 0).repeat(3, 1))


def encoded(image: Image.Image, kind: str = "png") -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("resize", [40, 64, 97])
def test_crop_is_torchvisions_evaluation_transform(resize: int) -> None:
    """Resize the shorter side, crop the centre: bit for bit as ImageNet models are evaluated."""
    pixels, size = Preprocessing(3, 40, 40, "crop", resize).decode(encoded(PHOTO))
    want = v2.Compose([v2.Resize(resize), v2.CenterCrop(40), v2.PILToTensor()])(PHOTO)
    assert (pixels == want.numpy()).all()
    assert size == PHOTO.size


def test_stretch_is_torchvisions_resize() -> None:
    """Both sides, height first."""
    pixels, _ = Preprocessing(3, 30, 50, "stretch").decode(encoded(PHOTO))
    assert (pixels == v2.Compose([v2.Resize((30, 50)), v2.PILToTensor()])(PHOTO).numpy()).all()


def test_an_image_of_the_right_size_is_not_touched() -> None:
    """No resampling: the file's pixels."""
    pixels, _ = Preprocessing(3, 201, 303, "stretch").decode(encoded(PHOTO))
    assert (pixels == np.asarray(PHOTO).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_every_mode_becomes_the_channels_asked_for(mode: str) -> None:
    """Palettes, alpha, one bit, printing colours: 1 or 3 channels as Pillow converts them."""
    image = PHOTO.convert("L").convert(mode) if mode == "LA" else PHOTO.convert(mode)
    data = encoded(image, "tiff" if mode == "CMYK" else "png")
    for channels, target in ((1, "L"), (3, "RGB")):
        pixels, _ = Preprocessing(channels, 201, 303).decode(data)
        want = np.asarray(image.convert(target))
        assert (pixels == (want[None] if channels == 1 else want.transpose(2, 0, 1))).all()


def test_sixteen_bits_become_eight() -> None:
    """The upper eight, not what fits below 256."""
    deep = RNG.integers(0, 2**16, (20, 20)).astype(np.uint16)
    pixels, _ = Preprocessing(1, 20, 20).decode(encoded(Image.fromarray(deep)))
    assert (pixels[0] == deep >> 8).all()


def test_random_views_are_one_per_image() -> None:
    """A random transform draws from the image's content: the same view each time, others for others."""
    p = Preprocessing(3, 20, 20, transforms="tests.data.test_preprocessing:noise", random_transforms=True)
    first, again, other = (p.decode(encoded(image))[0] for image in (PHOTO, PHOTO, PHOTO.rotate(90)))
    assert (first == again).all()
    assert (first != other).any()
    before = np.random.get_state()[1].copy()
    p.decode(encoded(PHOTO))
    assert (np.random.get_state()[1] == before).all()


def noise(image: Image.Image) -> np.ndarray:
    return np.random.randint(0, 255, (3, 20, 20)).astype(np.uint8)


def test_postscript_is_not_run() -> None:
    """Pillow would have Ghostscript run what an EPS file says."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(ValueError, match="EPS is a program"):
        Preprocessing(3, 20, 20).decode(program)


def test_what_readers_raise_is_a_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVIF's reader raises RuntimeError on damaged files, TIFF's TypeError."""

    def load(image: object) -> None:
        raise RuntimeError("Failed to decode image")

    data = encoded(PHOTO)
    monkeypatch.setattr(PngImageFile, "load", load)
    with pytest.raises(ValueError, match="RuntimeError: Failed to decode image"):
        Preprocessing(3, 20, 20).decode(data)
