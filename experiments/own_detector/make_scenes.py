"""Writes images/*.png, train.json and val.json: scenes of garments as a COCO data set of one's own.

python make_scenes.py [FOLDER] [--train 2000] [--val 500]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from bnrecal.data.scenes import compose
from bnrecal.data.sprites import CLASSES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=500)
    given = parser.parse_args()
    (given.folder / "images").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        images, annotations = [], []
        for k, scene in enumerate(compose(split, np.arange(getattr(given, split)))):
            name = f"{split}_{k:05}.png"
            Image.fromarray(scene.pixels).save(given.folder / "images" / name)
            images.append({"id": k, "file_name": name, "width": 64, "height": 64})
            for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": k,
                        "category_id": label + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (given.folder / f"{split}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
