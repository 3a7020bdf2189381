"""Experiments that come with the package, and their way into a folder of the user's."""

from pathlib import Path

from bnrecal.errors import BnrecalError, unknown_choice
from bnrecal.host.files import write_whole

# name -> (what it is, what to do in the folder it was written to)
EXAMPLES = {
    "own_network": (
        "a classifier and a supernet of one's own on images of one's own, from images to a report",
        "python make_images.py && python classifier.py && bnrecal sweep --study classifier.toml",
    ),
    "own_detector": (
        "a detector of one's own on COCO annotations of one's own, from scenes to a report",
        "python make_scenes.py && python detector.py && bnrecal sweep --study detector.toml",
    ),
    "averaged_weights": (
        "EMA and schedule-free weights in a plain training loop, evaluated with their own statistics",
        "python train.py",
    ),
    "published_grid": (
        "the default study: the published grid on the embedded scenes",
        "bnrecal sweep --study published_grid.toml --out results",
    ),
    "images_needed": (
        "how many images each averaging rule needs",
        "bnrecal sweep --study images_needed.toml --out results",
    ),
    "norm_batch": (
        "what small normalisation batches cost; wants CIFAR-10 as class folders",
        "bnrecal sweep --study norm_batch.toml --out results",
    ),
    "small_batches": (
        "every normalisation where batches are small; wants CIFAR-10 as class folders",
        "bnrecal sweep --study small_batches.toml --out results",
    ),
    "large_batches": (
        "what large training batches cost under SGD, LARS, LARC; wants CIFAR-10 as class folders",
        "bnrecal sweep --study large_batches.toml --out results",
    ),
    "averaging": (
        "should averaged or EMA weights be recalibrated? wants CIFAR-10 as class folders",
        "python train.py && bnrecal sweep --study averaged.toml --out averaged",
    ),
    "bn_nas": (
        "BN-NAS again: BN indicator and accuracy against subnets trained alone",
        "bnrecal sweep --study bn_nas_alone.toml --out alone --yes",
    ),
    "nas_bench_macro": (
        "supernets ranked against NAS-Bench-Macro's accuracies; wants CIFAR-10 as class folders",
        "bnrecal train uniform.toml --out uniform",
    ),
    "fashion_mnist": (
        "20,000 images or all 60,000; wants a torchvision root with Fashion-MNIST",
        "bnrecal train supernet.toml --data ROOT --out weights",
    ),
    "elpv": (
        "where recalibration does harm: MobileNetV2 on solar cells; prepare.py says what to install",
        "python prepare.py elpv",
    ),
    "garments_supernet": (
        "the recipe of the embedded supernet's training",
        "bnrecal train garments_supernet.toml --out weights",
    ),
}

# Files of an example beside NAME.toml, or beside the folder NAME.
COMPANIONS = {
    "images_needed": ("images_needed_exact.toml",),
    "norm_batch": ("residual.py",),
    "small_batches": (
        "residual.py",
        "small_batches_evalnorm.toml",
        "small_batches_pairs.toml",
        "small_batches_rates.toml",
        "small_batches_tuned.toml",
    ),
    "large_batches": ("residual.py", "large_batches_rates.toml", "large_batches_updates.toml"),
    "averaging": ("residual.py",),
    "bn_nas": ("bn_nas.py", "bn_nas_alone.toml"),
}


def _home() -> Path:
    """Where the experiments lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def files_of(name: str) -> list[Path]:
    """The files of an example, without what running it leaves behind. Raises BnrecalError."""
    if name not in EXAMPLES:
        raise unknown_choice("example", name, EXAMPLES)
    folder = _home() / name
    companions = [_home() / file for file in COMPANIONS.get(name, ())]
    if not folder.is_dir():
        return [folder.with_suffix(".toml"), *companions]
    return sorted(file for file in folder.iterdir() if file.suffix in (".py", ".toml")) + companions


def write_example(name: str, folder: Path, force: bool = False) -> list[Path]:
    """Write the example's files into `folder`, which is made; returns them.

    Raises BnrecalError for an unknown name, a file that is there already (without `force`), and a folder
    that cannot be written; then nothing is written but for a disk that fails on the way.
    """
    pairs = [(file, folder / file.name) for file in files_of(name)]
    there = [target for _, target in pairs if target.exists()]
    if there and not force:
        raise BnrecalError(f"{there[0]} exists; choose another folder or replace it by --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, target in pairs:
            write_whole(target, file.read_bytes())
    except OSError as error:
        raise BnrecalError(f"cannot write to {folder}: {error.strerror or error}") from None
    return [target for _, target in pairs]
