"""The user's own images and networks, from files on disk to the rows and the report."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnrecal.store.store import Store
from tests.own_images import folder_options, write_class_folders, write_coco, write_voc

GRID = ("--bs", "8", "--samples", "64,128", "--arch", "arch3")
Figures = dict[int, tuple[float, float]]


def figures(folder: str = "results") -> Figures:
    rows = Store(Path(folder)).rows()
    assert all(row["status"] == "done" for row in rows), rows
    return {row["n_samples"]: (row["update"], row["eval"]) for row in rows}


@pytest.mark.parametrize("write", [write_coco, write_voc])
def test_scenes_on_disk_give_the_figures_of_the_embedded_task(
    bnrecal: Callable[..., object], tmp_path: Path, write: Callable[[Path], tuple[object, ...]]
) -> None:
    """PNG files in COCO's and in VOC's form: decoded, cached, swept and reported like `tiny` itself."""
    options = write(tmp_path / "set")
    ran = bnrecal("sweep", *options, *GRID, "--out", "files")
    assert ran.code == 0, ran.err
    assert "decoded 192 images" in ran.err  # 128 to calibrate with, 64 to evaluate
    bnrecal("sweep", "--task", "tiny", *GRID, "--out", "scenes")
    assert figures("files") == figures("scenes")
    assert f"{figures('files')[128][1]:.4f}" in bnrecal("report", "--out", "files").out
    again = bnrecal("sweep", *options, *GRID, "--out", "again")
    assert "decoded" not in again.err
    assert figures("again") == figures("files")


def test_jpeg_files_give_nearly_the_same_figures(bnrecal: Callable[..., object], tmp_path: Path) -> None:
    """Lossy pixels are other pixels: the figures move, but the network still sees the garments."""
    bnrecal("sweep", *write_coco(tmp_path / "set", ".jpg"), *GRID, "--out", "files")
    bnrecal("sweep", "--task", "tiny", *GRID, "--out", "scenes")
    for n, (update, evaluated) in figures("scenes").items():
        assert figures("files")[n] == pytest.approx((update, evaluated), abs=0.1)
    assert figures("files") != figures("scenes")


USERS_MODULE = '''
import torch
from torch import nn


class Net(nn.Module):
    """Classifies by mean brightness after a BatchNorm: only right statistics give the right class."""

    def __init__(self, n_classes=2):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, n_classes)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))

    def forward(self, x):
        return self.head(self.norm(x).mean((2, 3)))


def plain():
    return Net()


class Space:
    """Two architectures, and any number by sampling."""

    archs = ("near", "far")

    def build(self, arch):
        net = Net()
        nn.init.constant_(net.norm.weight, 1.0 if arch == "near" else 2.0)
        return net

    def sample(self, n, seed):
        return [f"drawn-{seed}-{k}" for k in range(n)]


def raises():
    raise RuntimeError("no such luck")


def returns_text():
    return "a network"


def too_many(n_classes):
    return Net(3) if False else nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(n_classes + 1))


def needs_a_path(path):
    return Net()


def ends_the_process():
    raise SystemExit(0)


def not_to_be_copied():
    net = Net()
    net.doubled = net.norm.weight * 2
    return net


class Methods(Space):
    def archs(self):
        return ["near"]


class Predicts(Net):
    def predict(self, output):
        return output


class Raises(Net):
    def predict(self, output):
        return 1 / 0


def evaluation(image):
    return image.resize((16, 16))


def noisy(image):
    import random
    return image.resize((16, 16)).rotate(random.choice([0, 90, 180, 270]))


def seldom(image):
    import random
    return evaluation(image).rotate(180 if random.random() < 0.25 else 0)


def floats(image):
    return torch.zeros(3, 16, 16)


def breaks(image):
    raise TypeError("no such view")
'''


@pytest.fixture
def users_project(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the working folder beside two image folders; returns its name."""
    write_class_folders(tmp_path / "images")
    name = f"users_{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(USERS_MODULE)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    return name


def test_a_factory_that_returns_a_module(bnrecal: Callable[..., object], users_project: str) -> None:
    """A plain classifier on class folders: with its statistics re-estimated it tells bright from dark."""
    options = folder_options(Path("images"))
    ran = bnrecal(
        "sweep", *options, "--model", f"{users_project}:plain", "--estimator", "pooled", "--bs", "8"
    )
    assert ran.code == 0, ran.err
    rows = Store(Path("results")).rows()
    assert {row["n_samples"] for row in rows} == {12, 24, 48}  # a quarter, a half, all
    assert {(row["arch"], row["metric"]) for row in rows} == {("plain", "top1")}
    assert all(row["eval"] == 1.0 for row in rows if row["n_samples"] == 48)


def test_a_factory_that_names_architectures(bnrecal: Callable[..., object], users_project: str) -> None:
    """Its names are the default; random:K asks it; another weight of a BatchNorm is another digest."""
    options = (
        *folder_options(Path("images")),
        "--model",
        f"{users_project}:Space",
        "--bs",
        8,
        "--samples",
        16,
    )
    assert bnrecal("sweep", *options).code == 0
    rows = Store(Path("results")).rows()
    assert [row["arch"] for row in rows] == ["near", "far"]
    assert len({row["weights_digest"] for row in rows}) == 2
    assert bnrecal("sweep", *options, "--arch", "random:3:5", "--out", "drawn").code == 0
    assert [row["arch"] for row in Store(Path("drawn")).rows()] == ["drawn-5-0", "drawn-5-1", "drawn-5-2"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("raises", "raised RuntimeError: no such luck"),
        ("returns_text", "returned a str; allowed: a torch.nn.Module, or an object with archs and build"),
        ("missing", "has no 'missing'"),
        ("too_many", "has 3 outputs, task imagefolder 2 classes"),
        ("needs_a_path", "needs path; allowed arguments: n_classes, channels, image_size"),
        ("ends_the_process", "raised SystemExit: 0"),
        ("not_to_be_copied", "copying Net raised RuntimeError: Only Tensors created explicitly"),
        ("Methods", "returned an object whose archs are no names: <bound method"),
        ("Predicts", "predict gives float32 of shape (2, 2) for 2 images; needs a class index for each"),
        ("Raises", "predict raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_factory_that_does_not_work(
    bnrecal: Callable[..., object], users_project: str, factory: str, message: str
) -> None:
    """One line that names the factory and what is wrong; nothing is written."""
    ran = bnrecal("sweep", *folder_options(Path("images")), "--model", f"{users_project}:{factory}")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing_here:factory", "no module 'nothing_here' here or installed"),
        (
            "resnet18",
            "unknown model 'resnet18'; valid: supernet, torchvision:NAME, timm:NAME or module:factory",
        ),
        ("torchvision:resnet19", "torchvision has no classifier 'resnet19'; valid: resnet18"),
        ("timm:resnet19", "timm has no model 'resnet19'"),
        ("os.path:../x", "allowed: module:name"),
        ("supernet", "the shipped supernet weights are for 1 channel, 10 classes, map50"),
    ],
)
def test_unknown_models(bnrecal: Callable[..., object], users_project: str, model: str, message: str) -> None:
    """The value and what is allowed."""
    ran = bnrecal("sweep", *folder_options(Path("images")), "--model", model)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err


def test_transforms_of_the_users(bnrecal: Callable[..., object], users_project: str) -> None:
    """An evaluation transform replaces the resizing; a random one is refused, unless it is asked for."""
    sets = folder_options(Path("images"))[:-2]
    common = (*sets, "--model", f"{users_project}:plain", "--bs", 8, "--samples", 16)
    assert bnrecal("sweep", *common, "--transforms", f"{users_project}:evaluation").code == 0
    for name in ("noisy", "seldom"):
        refused = bnrecal("sweep", *common, "--transforms", f"{users_project}:{name}")
        assert refused.code == 2
        assert f"{name} is random (two views of one image differ)" in refused.err
    asked = (*common, "--transforms", f"{users_project}:noisy", "--allow-random-transforms")
    assert bnrecal("sweep", *asked, "--out", "a").code == 0
    assert bnrecal("sweep", *asked, "--out", "b", "--cache-limit", 0).code == 0  # each view is drawn but once
    assert figures("a") == figures("b")
    floats = bnrecal("sweep", *common, "--transforms", f"{users_project}:floats")
    assert "gives float32 of shape (3, 16, 16)" in floats.err
    breaks = bnrecal("sweep", *common, "--transforms", f"{users_project}:breaks")
    assert (breaks.code, breaks.err.count("\n")) == (2, 1)
    assert "breaks raised TypeError: no such view" in breaks.err
    for shaping in (
        ("--image-size", 16),
        ("--fit", "crop"),
        ("--resize", 16),
        ("--interpolation", "nearest"),
    ):
        both = bnrecal("sweep", *common, "--transforms", f"{users_project}:evaluation", *shaping)
        assert (both.code, "replaces --image-size, --fit, --resize and --interpolation" in both.err) == (
            2,
            True,
        )
    assert "--image-size, --fit, --resize and --interpolation" in " ".join(
        bnrecal("sweep", "--help").out.split()
    )


def test_an_edited_network_is_another_cell(
    bnrecal: Callable[..., object], users_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights in another `forward`: stored figures are not those of this network."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    common = (*folder_options(Path("images")), "--model", f"{users_project}:plain", "--bs", 8)
    assert bnrecal("sweep", *common, "--samples", 16).code == 0
    code = USERS_MODULE.replace("return self.head(", "return -self.head(")
    Path(f"{users_project}.py").write_text(code)
    monkeypatch.delitem(__import__("sys").modules, users_project)
    assert bnrecal("sweep", *common, "--samples", 16).code == 0
    first, second = (row["eval"] for row in Store(Path("results")).rows())
    assert first != second


def test_nothing_to_detect(bnrecal: Callable[..., object], tmp_path: Path) -> None:
    """Without an object on any evaluation image there is no mAP."""
    options = write_coco(tmp_path / "set")
    path = tmp_path / "set" / "val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    ran = bnrecal("sweep", *options, *GRID)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "no image has an object to find" in ran.err


def test_a_path_with_a_zero_byte(bnrecal: Callable[..., object], tmp_path: Path) -> None:
    text = 'task = "csv"\ncalibration = "a\\u0000b"\nevaluation = "c"\nimage_size = 8\nmodel = "m:f"\n'
    Path("study.toml").write_text(text)
    ran = bnrecal("sweep", "--study", "study.toml")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "is no path" in ran.err


def test_a_transform_and_a_bad_first_image(bnrecal: Callable[..., object], users_project: str) -> None:
    """The image the transform is tried on may be the one that is broken."""
    Path("images/train/cat/00.png").write_bytes(b"no image")
    options = (*folder_options(Path("images"))[:-2], "--transforms", f"{users_project}:evaluation")
    common = ("sweep", *options, "--model", f"{users_project}:plain", "--bs", 8, "--samples", 16)
    refused = bnrecal(*common)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "cat/00.png: not a whole image" in refused.err
    assert bnrecal(*common, "--skip-bad-images").code == 0


def test_classes_twice_or_empty(bnrecal: Callable[..., object], users_project: str) -> None:
    common = ("sweep", *folder_options(Path("images")), "--model", f"{users_project}:plain")
    for classes in ("cat,dog,cat", "cat,,dog"):
        ran = bnrecal(*common, "--classes", classes)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "--classes" in ran.err
    assert "--std: 'inf'" in bnrecal(*common, "--std", "inf").err


def test_a_list_of_paths_is_the_same_as_the_folders(
    bnrecal: Callable[..., object], users_project: str
) -> None:
    """csv with names or indices as labels gives the figures of the class folders."""
    model = ("--model", f"{users_project}:plain", "--bs", 8, "--samples", 16, "--order", "file")
    bnrecal("sweep", *folder_options(Path("images")), *model, "--out", "folders")
    for labels in (("cat", "dog"), ("0", "1")):
        for split in ("train", "val"):
            lines = ["path,label"]
            for label, name in zip(labels, ("cat", "dog"), strict=True):
                lines += [
                    f"{split}/{name}/{p.name},{label}" for p in sorted(Path("images", split, name).iterdir())
                ]
            Path("images", f"{split}.csv").write_text("\n".join(lines))
        sets = ("--calibration", "images/train.csv", "--evaluation", "images/val.csv", "--image-size", 16)
        ran = bnrecal("sweep", "--task", "csv", *sets, *model, "--out", f"csv{labels[0]}")
        assert ran.code == 0, ran.err
        assert figures(f"csv{labels[0]}") == figures("folders")


def test_torchvision_with_weights_of_each_kind(bnrecal: Callable[..., object], users_project: str) -> None:
    """A state dict, one inside a checkpoint with prefixes, and safetensors are one network."""
    from safetensors.torch import save_file
    from torchvision import models

    torch.manual_seed(3)
    module = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=2)
    state = module.state_dict()
    torch.save(state, "plain.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, "wrapped.pth")
    save_file(state, "weights.safetensors")
    digests = set()
    for file in ("plain.pth", "wrapped.pth", "weights.safetensors"):
        options = (*folder_options(Path("images")), "--model", "torchvision:shufflenet_v2_x0_5", "--bs", 8)
        ran = bnrecal(
            "sweep", *options, "--image-size", 32, "--samples", 16, "--weights", file, "--out", file[:3]
        )
        assert ran.code == 0, ran.err
        assert "untrained" not in ran.err
        digests.add(Store(Path(file[:3])).rows()[0]["key"])
    assert len(digests) == 1


def test_weights_that_do_not_belong(bnrecal: Callable[..., object], users_project: str) -> None:
    """Another network's file, another head, a pickle that runs code, a damaged file: one line each."""
    import pickle

    from torchvision import models

    torch.save(models.resnet18(num_classes=2).state_dict(), "resnet.pth")
    torch.save(models.shufflenet_v2_x0_5(num_classes=7).state_dict(), "seven.pth")
    Path("damaged.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path("pwned").touch, ())

    Path("evil.pth").write_bytes(pickle.dumps({"w": Evil()}))
    for file, message in (
        ("resnet.pth", "is not of this network: "),
        ("seven.pth", "fc.weight 7x1024 in the file, 2x1024 in the network"),
        ("damaged.safetensors", "is no weights file, or a damaged one"),
        ("evil.pth", "refused"),
        ("absent.pth", "no file absent.pth"),
    ):
        options = (*folder_options(Path("images")), "--model", "torchvision:shufflenet_v2_x0_5")
        ran = bnrecal("sweep", *options, "--image-size", 32, "--weights", file)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert message in ran.err
    assert not Path("pwned").exists()
    assert not Path("results").exists()


def test_timm_and_the_models_own_preprocessing(bnrecal: Callable[..., object], users_project: str) -> None:
    """--preprocess model fills in sizes and normalisation, and the study file records them."""
    sets = ("--task", "imagefolder", "--calibration", "images/train", "--evaluation", "images/val")
    model = ("--model", "timm:test_resnet", "--preprocess", "model", "--bs", 8, "--samples", 16)
    ran = bnrecal("sweep", *sets, *model)
    assert ran.code == 0, ran.err
    (study,) = Path("results").glob("study-*.toml")
    assert "image_size = [160, 160]" in study.read_text()
    assert "mean = [0.5, 0.5, 0.5]" in study.read_text()
    torchvision = ("--model", "torchvision:resnet18", "--preprocess", "model", "--bs", 8, "--samples", 16)
    dry = bnrecal("sweep", *sets, *torchvision, "--dry-run")
    assert dry.code == 0, dry.err


def test_a_torchvision_detector(bnrecal: Callable[..., object], tmp_path: Path) -> None:
    """ssdlite with live BatchNorms goes through a sweep; FrozenBatchNorm has nothing to recalibrate."""
    options = list(write_coco(tmp_path / "set"))
    options[options.index("--channels") + 1] = "3"
    options[options.index("--image-size") + 1] = "320"
    options[options.index("--preprocess") + 1] = "task"
    for name in ("train", "val"):
        path = tmp_path / "set" / f"{name}.json"
        document = json.loads(path.read_text())
        document["images"] = document["images"][:8]
        kept = {image["id"] for image in document["images"]}
        document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
        path.write_text(json.dumps(document))
    options[options.index("--order") + 1] = "random"
    model = ("--model", "torchvision:ssdlite320_mobilenet_v3_large", "--bs", 4, "--samples", 8)
    ran = bnrecal("sweep", *options, *model)
    assert ran.code == 0, ran.err
    (row,) = Store(Path("results")).rows()
    assert 0 <= row["eval"] <= 1
    (study,) = Path("results").glob("study-*.toml")
    assert "mean = [0.0]" in study.read_text()  # detectors normalise by themselves


USERS_DETECTORS = """
import numpy as np
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from bnrecal.metrics.boxes import Detections


def mute():
    return nn.BatchNorm2d(1)


class Frozen:
    archs = ("one",)

    def build(self, arch):
        return FrozenBatchNorm2d(1)

    def predict(self, output):
        n = len(output)
        return Detections(np.arange(n), np.tile([0.0, 0, 64, 64], (n, 1)), np.zeros(n, int), np.ones(n))
"""


def test_a_user_s_detector_needs_predict(bnrecal: Callable[..., object], tmp_path: Path) -> None:
    """Without predict the error says what it has to give; FrozenBatchNorm is named as frozen."""
    options = write_coco(tmp_path / "set")
    (tmp_path / "users_detectors.py").write_text(USERS_DETECTORS)
    options = tuple("task" if option == "model" else option for option in options)
    mute = bnrecal("sweep", *options, "--model", "users_detectors:mute")
    assert (mute.code, "has no predict(output)" in mute.err) == (2, True), mute.err
    frozen = bnrecal("sweep", *options, "--model", "users_detectors:Frozen", "--bs", 8, "--samples", 16)
    assert frozen.code == 3
    assert "frozen by its type" in frozen.err


def test_shapes_that_are_neither_image_nor_class(bnrecal: Callable[..., object], users_project: str) -> None:
    """Options about images are refused where the task brings its own, and places it does not read."""
    for options, message in (
        (("--task", "tiny", "--image-size", 32), "--image-size: task tiny brings its images along"),
        (
            ("--calibration", "x"),
            "--calibration: task garments brings its images along; for your own give --task, one of "
            "imagefolder, csv, coco, voc",
        ),
        (("--task", "tiny", "--data", "x"), "for your own give --task, one of fashion-mnist, cifar10"),
        (("--task", "imagefolder"), "task imagefolder needs --calibration, --evaluation, --image-size"),
        (
            ("--task", "imagefolder", "--calibration", "images/train", "--image-size", 16),
            "--evaluation: task imagefolder needs --evaluation\n",
        ),
        (("--task", "csv", "--evaluation", "x"), "task csv needs --calibration, --image-size"),
        (("--task", "voc", "--evaluation", "x"), "task voc needs --calibration, --images, --image-size"),
        (("--task", "cifar10"), "--data: task cifar10 needs --data\n"),
        ((*folder_options(Path("images")), "--data", "x"), "--data: task imagefolder does not use it"),
        ((*folder_options(Path("images")), "--image-size", "0"), "--image-size"),
        ((*folder_options(Path("images")), "--mean", "1,2"), "--mean: 2 values for 3 channels"),
        ((*folder_options(Path("images"))[:-2],), "--image-size: task imagefolder needs it"),
        ((*folder_options(Path("images")), "--cache-limit", "lots"), "--cache-limit: 'lots'"),
        ((*folder_options(Path("images")), "--order", "nowhere.txt"), "--order: cannot read nowhere.txt"),
        ((*folder_options(Path("images")), "--task", "cifar100"), "unknown task 'cifar100'; valid: garments"),
        (("--task", "fashion-mnist", "--data", "images"), "no whole FashionMNIST"),
    ):
        ran = bnrecal("sweep", "--model", f"{users_project}:plain", *options)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        assert message in ran.err


def test_bad_images_are_named_or_left_out(bnrecal: Callable[..., object], users_project: str) -> None:
    """A truncated and a missing image stop the sweep before it starts; --skip-bad-images counts them."""
    whole = Path("images/train/cat/03.png").read_bytes()
    Path("images/train/cat/03.png").write_bytes(whole[: len(whole) // 2])
    Path("images/val/dog/05.png").write_bytes(b"")
    options = (
        *folder_options(Path("images")),
        "--model",
        f"{users_project}:plain",
        "--bs",
        8,
        "--samples",
        40,
    )
    ran = bnrecal("sweep", *options)
    assert ran.code == 2, ran.err
    assert "not a whole image" in ran.err
    assert "--skip-bad-images" in ran.err
    assert Store(Path("results")).rows() == []
    skipped = bnrecal("sweep", *options, "--skip-bad-images")
    assert skipped.code == 0, skipped.err
    assert "2 images left out, the first: images/train/cat/03.png" in skipped.err
    Path("images/val/dog/05.png").unlink()
    assert "1 image left out, the first: " in bnrecal("sweep", *options, "--skip-bad-images").err
    assert "47 images" in bnrecal("sweep", *options[:-1], 48, "--skip-bad-images").err


def test_a_changed_image_is_another_cell(bnrecal: Callable[..., object], users_project: str) -> None:
    """Content decides: a moved folder does nothing again, a changed calibration image does its cells."""
    options = ("--model", f"{users_project}:plain", "--bs", 8, "--samples", "8,16", "--order", "file")
    bnrecal("sweep", *folder_options(Path("images")), *options)
    Path("images").rename("moved")
    again = bnrecal("sweep", *folder_options(Path("moved")), *options)
    assert "all 2 cells are done" in again.err
    Image.fromarray(np.zeros((20, 22, 3), np.uint8)).save("moved/train/cat/10.png")  # the 11th image
    changed = bnrecal("sweep", *folder_options(Path("moved")), *options)
    assert "1 cell in 1 pass, 1 kept from before" in changed.err  # 8 images do not reach it
    assert "on other images" not in changed.err
    Image.fromarray(np.zeros((20, 22, 3), np.uint8)).save("moved/val/cat/10.png")
    other = bnrecal("sweep", *folder_options(Path("moved")), *options)
    assert "2 cells" in other.err
    assert "note: results has 3 cells of imagefolder on other images" in other.err
    Image.fromarray(np.zeros((20, 22, 3), np.uint8)).save("moved/val/cat/11.png")
    assert "note: results has 5 cells" in bnrecal("sweep", *folder_options(Path("moved")), *options).err
    titles = [line for line in bnrecal("report").out.splitlines() if "top-1 by ema" in line]
    assert len(set(titles)) == 3
    assert all(re.match(r"imagefolder \(images [0-9a-f]{6}\): top-1", title) for title in titles)


def test_images_made_into_input_otherwise_are_sections_of_their_own(
    bnrecal: Callable[..., object], users_project: str
) -> None:
    """Told apart by the setting that differs; of one set of images the task's name is enough."""
    options = ("--model", f"{users_project}:plain", "--bs", 8, "--samples", 16, "--no-baseline")
    bnrecal("sweep", *folder_options(Path("images")), *options)
    assert "imagefolder: top-1 by ema" in bnrecal("report").out
    bnrecal("sweep", *folder_options(Path("images")), *options, "--image-size", "24x20")
    out = bnrecal("report").out
    assert "imagefolder (image size 16x16): top-1 by ema" in out
    assert "imagefolder (image size 24x20): top-1 by ema" in out


def test_sizes_that_nobody_named_are_said_where_they_are_not_the_usual(
    bnrecal: Callable[..., object], users_project: str
) -> None:
    """48 images are too few for the published counts; who names the counts needs no note."""
    options = ("--model", f"{users_project}:plain", *folder_options(Path("images")), "--dry-run")
    said = "note: of 48 calibration images --samples 12,24,48 and --bs 8 are taken"
    assert said in bnrecal("sweep", *options).err
    assert "are taken" not in bnrecal("sweep", *options, "--samples", 16, "--bs", 8).err
    assert "are taken" not in bnrecal("sweep", "--task", "tiny", "--dry-run").err


def test_a_class_folder_without_images_is_said(bnrecal: Callable[..., object], users_project: str) -> None:
    """It counts as a class all the same: named in a note, and where a network of two classes does not fit.
    Named classes say what they are."""
    options = ("--model", f"{users_project}:plain", *folder_options(Path("images")), "--dry-run")
    Path("images/train/empty").mkdir()
    ran = bnrecal("sweep", *options)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "has 2 outputs, task imagefolder 3 classes (cat, dog, empty)" in ran.err
    torchvision = ("--model", "torchvision:resnet18", *options[2:])
    said = "note: 3 classes, of which --calibration has no image of empty\n"
    assert said in bnrecal("sweep", *torchvision).err
    named = bnrecal("sweep", *options, "--classes", "cat,dog")
    assert (named.code, said in named.err) == (0, False)


def test_an_unknown_ending_of_a_report_is_refused(bnrecal: Callable[..., object], users_project: str) -> None:
    """A file that says .pdf and holds text helps nobody; with --format any name will do."""
    options = ("--model", f"{users_project}:plain", "--bs", 8, "--samples", 16, "--no-baseline")
    bnrecal("sweep", *folder_options(Path("images")), *options)
    ran = bnrecal("report", "-o", "report.pdf")
    assert (ran.code, "-o report.pdf: ends in '.pdf'; allowed: .txt, .csv" in ran.err) == (2, True)
    assert not Path("report.pdf").exists()
    assert bnrecal("report", "-o", "report.txt").code == 0
    assert bnrecal("report", "-o", "report.dat", "--format", "csv").code == 0
    assert Path("report.txt").read_text() == bnrecal("report").out
