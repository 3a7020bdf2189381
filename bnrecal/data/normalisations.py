"""Means and standard deviations of pixels / 255 that networks are trained with, by data set or by habit."""

from collections.abc import Sequence

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = ((0.449,), (0.226,))  # ImageNet's, averaged over the channels
PLAIN = ((0.0,), (1.0,))  # pixels / 255 as they are
HALF = ((0.5,), (0.5,))  # -1 to 1
BYTES = ((0.0,), (1 / 255,))  # pixels of 0 to 255
BY_TASK = {
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]


def known(channels: int) -> dict[str, MeanStd]:
    """The usual ones for so many channels, by the words that name them."""
    return {
        "pixels / 255": PLAIN,
        "ImageNet's": IMAGENET if channels == 3 else GREY,
        "-1 to 1": HALF,
        "pixels of 0 to 255": BYTES,
    }


def options(value: MeanStd) -> str:
    """As the command line takes it: "--mean 0.5 --std 0.5"."""
    return f"--mean {_numbers(value[0])} --std {_numbers(value[1])}"


def words(value: MeanStd) -> str:
    """ "mean 0.5, std 0.5"."""
    return f"mean {_numbers(value[0])}, std {_numbers(value[1])}"


def _numbers(values: Sequence[float]) -> str:
    """Each once where all are one, with four digits that count."""
    values = values[:1] if len(set(values)) == 1 else values
    return ",".join(f"{value:.4g}" for value in values)
