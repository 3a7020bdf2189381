"""Batch sizes in which the doctor runs the same images."""

from dataclasses import dataclass

SIZES = (1, 8, 64)  # batch sizes that are tried, where there are so many images


@dataclass(frozen=True)
class Sizes:
    """Batch sizes in which the same images are run, and how many of which images that is."""

    sizes: tuple[int, ...]
    n_images: int
    which: str  # "calibration" or "evaluation"

    @staticmethod
    def of(n: int, which: str, whole: bool = False) -> "Sizes":
        """Those of SIZES that n images fill, and all images at once where n is smaller than the last.

        Unless `whole`, so few images are left out that the last batch is short at every size but 1 and
        all: only then a metric averaged by batch shows.
        """
        step = next((size for size in reversed(SIZES[1:]) if size < n), n)
        if not whole and 1 < step < n:
            n = (n - 1) // step * step + 1
        tried = [size for size in SIZES if size < n]
        if n <= SIZES[-1]:
            tried += [n - 1, n] if 2 < n <= SIZES[1] and not whole else [n]
        return Sizes(tuple(dict.fromkeys(tried)), n, which)

    def __str__(self) -> str:
        """ "1, 8, 64"."""
        return ", ".join(map(str, self.sizes))

    @property
    def images(self) -> str:
        return f"{self.n_images:,} {self.which} image{'s' if self.n_images > 1 else ''}"
