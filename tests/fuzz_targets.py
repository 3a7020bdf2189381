"""The files a user hands over, and the commands that read each."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from bnrecal.store.rows import line_of
from bnrecal.store.store import Store
from bnrecal.study.study import Study
from tests.own_images import write_class_folders, write_coco, write_voc
from tests.store.test_store import row

Commands = tuple[tuple[object, ...], ...]
Target = tuple[Path, Commands]
GRID = ("--arch", "arch1", "--bs", "8", "--samples", "64", "--dry-run")


def _store(folder: Path) -> Target:
    rows = [
        row(f"{arch}-{bs}-{n}", arch=arch, batch_size=bs, n_samples=n, n_updates=n // bs, update=n / 1000)
        for arch in ("arch1", "arch2")
        for bs in (4, 8)
        for n in (64, 128, 256)
    ]
    path = folder / "results" / "rows.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"".join(map(line_of, rows)))
    layouts = ("table", "long", "md", "csv", "json")
    reports = tuple(("report", "--format", layout) for layout in layouts)
    return path, (*reports, ("show", "arch1-4"), ("sweep", "--task", "tiny", *GRID))


def _study(folder: Path) -> Target:
    path = Store(folder).keep_study(Study(task="tiny", bs=(4, 8), samples=(64, 128), estimator=("ema",)))
    return path, (("sweep", "--study", path, "--dry-run"),)


def _coco(folder: Path) -> Target:
    options = write_coco(folder / "set")
    return folder / "set" / "val.json", (("sweep", *options, *GRID),)


def _voc(folder: Path) -> Target:
    options = write_voc(folder / "set")
    return folder / "set" / "Annotations" / "val_000.xml", (("sweep", *options, *GRID),)


def _csv(folder: Path) -> Target:
    write_class_folders(folder / "set", n=40)
    for split in ("train", "val"):
        images = sorted((folder / "set" / split).glob("*/*.png"))
        lines = [f"{image.relative_to(folder / 'set')},{image.parent.name}\n" for image in images]
        (folder / f"{split}.csv").write_text("path,label\n" + "".join(lines))
    sets = ("--calibration", folder / "train.csv", "--evaluation", folder / "val.csv")
    options = ("--task", "csv", *sets, "--images", folder / "set", "--image-size", "16")
    model = ("--model", "timm:resnet10t", "--bs", "8", "--samples", "64", "--dry-run")
    return folder / "val.csv", (("sweep", *options, *model),)


def _weights(folder: Path, state_dict: bool) -> Target:
    from bnrecal.networks.supernet import Supernet

    state = Supernet().state_dict()
    path = folder / ("weights.pt" if state_dict else "weights.safetensors")
    if state_dict:
        torch.save(state, path)
    else:
        save_file(state, path)
    return path, (("sweep", "--task", "tiny", "--weights", path, *GRID),)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "store": _store,
    "study": _study,
    "coco": _coco,
    "voc": _voc,
    "csv": _csv,
    "safetensors": lambda folder: _weights(folder, state_dict=False),
    "state-dict": lambda folder: _weights(folder, state_dict=True),
}


def prepare(target: str, folder: Path) -> Target:
    """Write the files of this target into `folder`; the one to mutate, and what reads it."""
    return TARGETS[target](folder)
