"""Readers of lists and annotations: what they read, and one line for what they cannot."""

import contextlib
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bnrecal.data.class_folders import read_class_folders
from bnrecal.data.coco_boxes import read_coco
from bnrecal.data.csv_list import read_csv_list
from bnrecal.data.torchvision_sets import read_torchvision_set
from bnrecal.data.voc_boxes import read_voc
from bnrecal.errors import BnrecalError
from tests.own_images import write_class_folders

COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}, {"id": 9, "file_name": "b/c.png"}],
    "annotations": [
        {"image_id": 9, "category_id": 30, "bbox": [1, 2.5, 3, 4]},
        {"image_id": 7, "category_id": 4, "bbox": [0, 0, 20, 10], "iscrowd": 1},
    ],
    "categories": [{"id": 30, "name": "cat"}, {"id": 4, "name": "dog"}],
}


def test_class_folders_are_torchvisions(tmp_path: Path) -> None:
    """The same files with the same class indices as ImageFolder."""
    from torchvision.datasets import ImageFolder

    write_class_folders(tmp_path)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/dog/more").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "train/dog/more/x.jpg")
    found = read_class_folders(tmp_path / "train", "--calibration", None)
    theirs = ImageFolder(str(tmp_path / "train"))
    mine = {
        str(tmp_path / "train" / n): int(k) for n, k in zip(found.source.names, found.labels, strict=True)
    }
    assert mine == dict(theirs.samples)
    assert list(found.classes) == theirs.classes


def test_coco_by_hand(tmp_path: Path) -> None:
    """Images in file order, categories by id, boxes flat, crowds marked."""
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    found = read_coco(tmp_path / "a.json", tmp_path, "--calibration", None)
    assert list(found.source.names) == ["a.png", "b/c.png"]
    assert found.classes == ("dog", "cat")
    assert found.image.tolist() == [1, 0]
    assert found.labels.tolist() == [1, 0]
    assert found.boxes.tolist() == [[1, 2.5, 3, 4], [0, 0, 20, 10]]
    assert found.crowd.tolist() == [False, True]
    assert found.sizes.tolist() == [[20, 10], [0, 0]]


def test_coco_pair_as_pycocotools_reads_it(tmp_path: Path) -> None:
    """On the real COCO excerpt: as many images, objects and categories, with the same boxes."""
    from pycocotools import coco

    document = json.loads((Path(__file__).parent.parent / "reference/ground_truth.json").read_text())
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.jpg"  # the excerpt has none
    path = tmp_path / "ground_truth.json"
    path.write_text(json.dumps(document))
    found = read_coco(path, Path("images"), "--evaluation", None)
    theirs = coco.COCO(str(path))
    assert len(found.source) == len(theirs.getImgIds())
    assert len(found.classes) == len(theirs.getCatIds())
    annotations = theirs.loadAnns(theirs.getAnnIds())
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(
        tuple(map(float, a["bbox"])) for a in annotations
    )


def changed(**parts: object) -> dict[str, object]:
    return {**COCO, **parts}


def annotation(**parts: object) -> dict[str, object]:
    return changed(annotations=[{"image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5], **parts}])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is no COCO annotation file"),
        (changed(images="x"), "needs the lists images, annotations, categories"),
        (changed(images=[]), "names no image"),
        (changed(images=[{"id": 1}]), r"images\[0\]: .* needs id, file_name"),
        (
            changed(images=[{"id": 7, "file_name": "a"}, {"id": 7, "file_name": "b"}]),
            "two images have one id",
        ),
        (changed(images=[{"id": 7, "file_name": "../x.png"}]), "annotations|leaves the image folder"),
        (annotation(image_id=8), r"annotations\[0\]: image_id 8 is not among the images"),
        (annotation(category_id=5), r"annotations\[0\]: category_id 5 is not among the categories"),
        (annotation(bbox=[0, 0, 5]), "needs a bbox of four numbers"),
        (annotation(bbox=[0, 0, float("nan"), 5]), "needs a bbox of four numbers"),
        (changed(categories=[{"id": 4, "name": "a"}, {"id": 4, "name": "b"}]), "stands there twice"),
    ],
)
def test_bad_coco_documents(tmp_path: Path, document: object, message: str) -> None:
    """One line with the file and the entry."""
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(BnrecalError, match=message) as raised:
        read_coco(tmp_path / "a.json", tmp_path, "--calibration", None)
    assert "a.json" in str(raised.value)


def test_coco_boxes_without_area_are_left_out(tmp_path: Path) -> None:
    """They are counted."""
    (tmp_path / "a.json").write_text(json.dumps(annotation(bbox=[0, 0, 0, 5])))
    found = read_coco(tmp_path / "a.json", tmp_path, "--calibration", None)
    assert (len(found.boxes), found.n_left_out) == (0, 1)


VOC = (
    "<annotation><size><width>20</width><height>10</height></size>"
    "<object><name>dog</name><difficult>{difficult}</difficult><bndbox><xmin>{x}</xmin><ymin>1</ymin>"
    "<xmax>10</xmax><ymax>{y}</ymax></bndbox></object></annotation>"
)


def voc(root: Path, text: str, ids: str = "one\n") -> Path:
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "JPEGImages").mkdir(exist_ok=True)
    (root / "JPEGImages/one.jpg").touch()
    (root / "Annotations/one.xml").write_text(text)
    (root / "ids.txt").write_text(ids)
    return root / "ids.txt"


def test_voc_by_hand(tmp_path: Path) -> None:
    """1-based corners with both ends: xmin 1, xmax 10 is x 0, width 10; difficult is crowd."""
    found = read_voc(voc(tmp_path, VOC.format(x=1, y=4, difficult=1)), tmp_path, "--calibration", None)
    assert found.boxes.tolist() == [[0, 0, 10, 4]]
    assert found.crowd.tolist() == [True]
    assert list(found.source.names) == ["one.jpg"]


@pytest.mark.parametrize(("x", "y"), [(10, 4), (11, 4), (1, 1), (1, -4)])
def test_voc_boxes_without_area_are_left_out(tmp_path: Path, x: int, y: int) -> None:
    """Sides that coincide or are crossed are counted and make no object; a pixel apart they do."""
    ids = voc(tmp_path, VOC.format(x=x, y=y, difficult=0))
    found = read_voc(ids, tmp_path, "--calibration", ("dog",))
    assert (len(found.boxes), found.n_left_out) == (0, 1)
    found = read_voc(voc(tmp_path, VOC.format(x=9, y=2, difficult=0)), tmp_path, "--calibration", ("dog",))
    assert (found.boxes.tolist(), found.n_left_out) == ([[8, 0, 2, 2]], 0)


@pytest.mark.parametrize(
    ("text", "ids", "message"),
    [
        ("<annotation>", "one", "one.xml: not an XML file"),
        (VOC.format(x="", y=4, difficult=0), "one", "one.xml: bndbox/xmin is ''; needs a number"),
        (VOC.format(x="nan", y=4, difficult=0), "one", "needs a number"),
        (VOC.format(x=1, y=4, difficult=0), "two", "two.xml: cannot be read"),
        (VOC.format(x=1, y=4, difficult=0), "../one", "leaves the image folder"),
        (VOC.format(x=1, y=4, difficult=0), "one\none", "'one' stands there twice"),
        (VOC.format(x=1, y=4, difficult=0), "", "names no image"),
    ],
)
def test_bad_voc_files(tmp_path: Path, text: str, ids: str, message: str) -> None:
    """One line with the file."""
    with pytest.raises(BnrecalError, match=message):
        read_voc(voc(tmp_path, text, ids), tmp_path, "--calibration", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no image"),
        ("a.png\n", "line 1: 'a.png'; each line is path,label"),
        ("a.png,cat\nb.png,cat,x\n", "line 2"),
        ("a.png,\n", "line 1"),
        ("/etc/passwd,cat\n", "line 1: /etc/passwd lies outside"),
        ("../a.png,cat\n", "leaves the image folder"),
    ],
)
def test_bad_csv_files(tmp_path: Path, text: str, message: str) -> None:
    """One line with the file's line."""
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BnrecalError, match=message):
        read_csv_list(tmp_path / "list.csv", None, "--calibration", None)


def test_csv_labels_are_names_or_indices(tmp_path: Path) -> None:
    """Names are sorted, whole numbers are indices even if some are missing; --classes fixes the order."""
    path = tmp_path / "list.csv"
    path.write_text("path,label\na.png,dog\nb.png,cat\n")
    found = read_csv_list(path, None, "--calibration", None)
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [1, 0])
    given_order = read_csv_list(path, None, "--calibration", ("dog", "cat"))
    assert given_order.labels.tolist() == [0, 1]
    path.write_text(f"a.png,0\n{tmp_path}/b.png,3\n")
    found = read_csv_list(path, None, "--calibration", None)
    assert (found.classes, found.labels.tolist()) == (("0", "1", "2", "3"), [0, 3])
    assert list(found.source.names) == ["a.png", "b.png"]
    with pytest.raises(BnrecalError, match=r"unknown class '3' \(b.png\); there are 2: 0, 1"):
        read_csv_list(path, None, "--evaluation", ("0", "1"))


def mutated(data: bytes, edits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, value in edits:
        changed[at % len(changed)] = value
    return bytes(changed)


EDITS = st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=6)


@pytest.mark.parametrize("kind", ["coco", "csv", "voc", "ids"])
@given(edits=EDITS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_annotations_never_trace_back(
    tmp_path: Path, kind: str, edits: list[tuple[int, int]]
) -> None:
    """Any bytes changed: the file is read, or there is a BnrecalError."""
    good = VOC.format(x=1, y=4, difficult=0)
    data = {"coco": json.dumps(COCO), "csv": "path,label\na.png,dog\nb.png,1\n", "voc": good, "ids": "one\n"}[
        kind
    ]
    path = {"coco": "a.json", "csv": "a.csv", "voc": "Annotations/one.xml", "ids": "ids.txt"}[kind]
    voc(tmp_path, good)
    (tmp_path / path).write_bytes(mutated(data.encode(), edits))
    read: dict[str, Callable[[], object]] = {
        "coco": lambda: read_coco(tmp_path / path, tmp_path, "--calibration", None),
        "csv": lambda: read_csv_list(tmp_path / path, None, "--calibration", None),
    }
    found = None
    with contextlib.suppress(BnrecalError):
        found = read.get(kind, lambda: read_voc(tmp_path / "ids.txt", tmp_path, "--calibration", None))()
    assert np.isfinite(getattr(found, "boxes", np.zeros(1))).all()


def test_a_folder_linked_into_itself_is_refused(tmp_path: Path) -> None:
    """Followed, it would give each image some forty times."""
    write_class_folders(tmp_path, n=1)
    (tmp_path / "train" / "cat" / "again").symlink_to("..")
    with pytest.raises(BnrecalError, match="again is a link to a folder that it lies in"):
        read_class_folders(tmp_path / "train", "--calibration", None)


def test_a_folder_that_cannot_be_read_is_no_empty_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_class_folders(tmp_path, n=1)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(BnrecalError, match="dog cannot be read: Permission denied"):
        read_class_folders(tmp_path / "train", "--calibration", None)


def test_names_no_file_system_knows(tmp_path: Path) -> None:
    """A name that is too long, and links that lead in a circle."""
    with pytest.raises(BnrecalError, match="is no folder"):
        read_class_folders(tmp_path / ("a" * 300), "--calibration", None)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "list.csv").write_text(f"{tmp_path}/loop/a.png,1\n")
    source = read_csv_list(tmp_path / "list.csv", tmp_path, "--calibration", None).source
    assert source.place == os.path.realpath(tmp_path)
    with pytest.raises(BnrecalError, match="Too many levels of symbolic links"):
        source.content(0)


def test_voc_objects_need_a_name(tmp_path: Path) -> None:
    """Nor is a set without any object one that tells its classes. The list may have a byte order mark."""
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfa\r\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    for inner, message in (
        (f"<object>{box}</object>", "an object has no name"),
        ("", "no object on any image"),
    ):
        (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation>{inner}</annotation>")
        with pytest.raises(BnrecalError, match=message):
            read_voc(tmp_path / "ids.txt", tmp_path, "--calibration", None)


def test_an_id_twice_in_a_long_list_is_found_at_once(tmp_path: Path) -> None:
    """Ten times the list takes about ten times as long; counting each id in the whole list, a hundred."""

    def cpu_s(n: int) -> float:
        (tmp_path / "ids.txt").write_text("".join(f"{k}\n" for k in range(n)) + f"{n - 1}\n")
        started = time.process_time()
        with pytest.raises(BnrecalError, match=f"image '{n - 1}' stands there twice"):
            read_voc(tmp_path / "ids.txt", tmp_path, "--calibration", None)
        return time.process_time() - started

    assert min(cpu_s(100_000) for _ in range(3)) < 40 * min(cpu_s(10_000) for _ in range(3))


def test_coco_without_categories(tmp_path: Path) -> None:
    document = {"images": COCO["images"], "annotations": [], "categories": []}
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(BnrecalError, match="names no category"):
        read_coco(tmp_path / "a.json", tmp_path, "--calibration", None)


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [([0, 10], 8, "2 labels up to 10"), ([0], 8, "1 labels"), ([0, 1], 10, "no whole FashionMNIST")],
)
def test_damaged_torchvision_sets(tmp_path: Path, labels: list[int], kind: int, message: str) -> None:
    """A label beyond the classes, too few labels, and a kind of number that IDX does not have."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = bytes([0, 0, kind, 3]) + struct.pack(">3I", 2, 28, 28) + bytes(2 * 28 * 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images)
        head = bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(head + bytes(labels))
    with pytest.raises(BnrecalError, match=message):
        read_torchvision_set("fashion-mnist", tmp_path, True)
