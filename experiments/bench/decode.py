"""How fast image files become pixels, and what reading them from the cache costs a pass.

python experiments/bench/decode.py

1. A folder of JPEG files, 640 x 480, decoded to 224 x 224: the cache's filling on all cores beside
   one thread of Pillow doing the same (read, decode, resize), images per second; and the hashing that
   tells which images these are.
2. recalibrate() of a ResNet-18 over 2,048 of those images at 64 x 64: batches read from the filled
   cache beside batches cut from one array in memory, in turns, medians.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models

import bnrecal
from bnrecal.data.image_cache import ImageCache
from bnrecal.data.image_source import Files
from bnrecal.data.preprocessing import Preprocessing

N_FILES, ROUNDS, BATCH = 2048, 5, 64


def write_photos(folder: Path) -> Files:
    """Smooth colour fields with some noise: JPEG files of about 60 kB."""
    rng = np.random.default_rng(0)
    for k in range(N_FILES):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize(
            (640, 480), Image.BICUBIC
        )
        noise = rng.integers(-12, 12, (480, 640, 1))
        pixels = (np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:05}.jpg", quality=88)
    return Files(folder, [f"{k:05}.jpg" for k in range(N_FILES)], "the bench")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def decoding(source: Files) -> None:
    p = Preprocessing(3, 224, 224, "crop", 256)
    n = 512
    alone = n / seconds(lambda: [p.decode(source.content(k)) for k in range(n)])
    cache = ImageCache(source, p)
    hashed = n / seconds(lambda: cache.digests(np.arange(n)))
    filled = n / seconds(lambda: cache.prepare(np.arange(n)))
    print(
        f"decoding: {filled:.0f} images/s into the cache on {len(os.sched_getaffinity(0))} cores, "
        f"{alone:.0f} by one thread of Pillow ({filled / alone:.2f} times); "
        f"hashed before at {hashed:.0f} images/s"
    )


def reading(source: Files) -> None:
    p = Preprocessing(3, 64, 64, "stretch")
    cache = ImageCache(source, p)
    cache.prepare(np.arange(N_FILES))
    in_memory = cache.pixels(np.arange(N_FILES))
    model = models.resnet18()

    def batches(read: Callable[[np.ndarray], np.ndarray]) -> Iterator[torch.Tensor]:
        for chosen in np.split(np.random.default_rng(1).permutation(N_FILES), N_FILES // BATCH):
            yield torch.from_numpy(read(chosen)).float().div_(255)

    ways = {"cache": cache.pixels, "memory": lambda chosen: in_memory[chosen]}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS + 1):
        for name, read in ways.items():
            taken = seconds(lambda read=read: bnrecal.recalibrate(model, batches(read)))
            if round_:
                times[name].append(taken)
    rates = {name: N_FILES / statistics.median(found) for name, found in times.items()}
    print(
        f"recalibrate resnet18 at 64 px: {rates['cache']:.0f} images/s from the cache, {rates['memory']:.0f} "
        f"from memory ({rates['cache'] / rates['memory']:.3f})"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BNRECAL_CACHE_DIR"] = f"{folder}/cache"
        photos = Path(folder) / "photos"
        photos.mkdir()
        source = write_photos(photos)
        decoding(source)
        reading(source)


if __name__ == "__main__":
    main()
