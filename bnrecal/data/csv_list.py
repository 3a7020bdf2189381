"""A file of lines path,label."""

import csv
import os
from pathlib import Path

from bnrecal.data.image_source import Files
from bnrecal.data.labelled import LabelledImages, class_indices, natural_classes
from bnrecal.errors import BnrecalError

_HEADERS = ({"path", "file", "filename", "image"}, {"label", "class", "target"})


def read_csv_list(
    path: Path, root: Path | None, option: str, classes: tuple[str, ...] | None
) -> LabelledImages:
    """The images of the file's lines, in its order, relative to `root` or to the file's own folder.

    Labels that are all whole numbers are class indices; others are names, sorted. A first line that
    reads like a heading (path,label) is passed over. Raises BnrecalError naming the line at fault.
    """
    root = path.parent if root is None else root
    names, labels = [], []
    for number, line in _lines(path, option):
        place = f"{option} {path} line {number}"
        if len(line) != 2 or not line[0].strip() or not line[1].strip():
            raise BnrecalError(f"{place}: {','.join(line)!r}; each line is path,label")
        names.append(_below(line[0].strip(), root, place))
        labels.append(line[1].strip())
    if not names:
        raise BnrecalError(f"{option}: {path} names no image; each line is path,label")
    wanted = natural_classes(labels) if classes is None else classes
    indices = class_indices(labels, wanted, f"{option} {path}", names)
    return LabelledImages(Files(root, names, f"{option} {path}"), indices, wanted)


def _lines(path: Path, option: str) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if line]
    except OSError as error:
        raise BnrecalError(f"{option}: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BnrecalError(f"{option}: {path} is not a CSV file: {error}") from None
    if lines and len(lines[0][1]) == 2:
        heading = [text.strip().lower() for text in lines[0][1]]
        if all(text in known for text, known in zip(heading, _HEADERS, strict=True)):
            return lines[1:]
    return lines


def _below(name: str, root: Path, place: str) -> str:
    """The name relative to `root`; an absolute path may lie in it."""
    path = Path(name)
    if not path.is_absolute():
        return path.as_posix()
    try:
        return Path(os.path.realpath(path)).relative_to(os.path.realpath(root)).as_posix()
    except ValueError:
        raise BnrecalError(f"{place}: {name} lies outside {root}; --images names the folder of all") from None
