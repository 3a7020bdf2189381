"""What bn_nas.toml needs besides bnrecal: true values from networks trained alone, and the heat map.

    python bn_nas.py truth OUT [-o FILE]               OUT of bn_nas_alone.toml
    python bn_nas.py heat OUT [--figures FOLDER]       OUT of bn_nas.toml, or folders of `bnrecal train`

The heat map is BN-NAS' figure of when the indicator settles: the candidates of each layer are ranked by it
after every epoch, the ranks of all layers stand in one vector, and two epochs are compared by the distance of
theirs, divided by the largest there can be.
"""

import argparse
import json
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnrecal.report.formats.canvas import write_pictures
from bnrecal.report.formats.picture import Panel, Picture
from bnrecal.store.artefacts import trained_folder
from bnrecal.store.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = "Distance of the BN indicator's orders between epochs."
Ranks = NDArray[np.float64]


def truth_of(out: Path) -> dict[str, dict[str, object]]:
    """By architecture the mean of its trainings as they stand, and each of them."""
    runs: dict[str, list[float]] = defaultdict(list)
    for row in Store(out).evaluated():
        if row["status"] == "done" and row["estimator"] == "stored":
            runs[row["arch"]].append(row["eval"])
    return {arch: {"mean_acc": mean(each), "test_acc": each} for arch, each in runs.items()}


def ranks_of(indicator: Sequence[Sequence[float]]) -> Ranks:
    """Each candidate's place in its layer, 0 the lowest, all layers in one vector."""
    return np.concatenate([np.argsort(np.argsort(layer, kind="stable")) for layer in indicator]).astype(float)


def distances(log: Sequence[Sequence[Sequence[float]]]) -> NDArray[np.float64]:
    """Between the orders of every two epochs: 0 the same, 1 reversed in every layer. (epochs, epochs)"""
    vectors = np.array([ranks_of(indicator) for indicator in log])
    apart = np.sqrt(((vectors[:, None] - vectors[None]) ** 2).sum(2))
    reverse = sum(((2 * np.arange(len(layer)) - (len(layer) - 1)) ** 2).sum() for layer in log[0])
    return apart / float(np.sqrt(reverse))


def heat_pictures(out: Path) -> list[Picture]:
    """A panel for each training of more than two epochs."""
    panels = []
    for row in Store(out).latest():
        if row.get("kind") != "train" or row["status"] != "done" or row["recipe"].get("epochs", 10) < 3:
            continue
        found = distances(indicators_of(trained_folder(out) / row["key"]))
        panels.append(_panel(f"trainable: {row['recipe'].get('trainable', 'all')}", found))
    return [Picture("heat", "heat", CAPTION, tuple(panels))]


def indicators_of(folder: Path) -> list[list[list[float]]]:
    """By epoch, layer and candidate, of a supernet's training."""
    entries = (json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines())
    return [entry["bn_indicator"] for entry in entries]


def _title(folder: Path) -> str:
    """What was trained and for how long, or the folder's name where it does not say."""
    file = folder / "recipe.toml"
    if not file.is_file():
        return folder.name
    recipe = tomllib.loads(file.read_text("utf-8"))
    return f"trainable: {recipe.get('trainable', 'all')}, {recipe['epochs']} epochs"


def _panel(name: str, found: NDArray[np.float64]) -> Panel:
    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        ends = (0.5, len(found) + 0.5)
        axes.grid(visible=False)
        shown = axes.imshow(found, origin="lower", cmap="viridis", vmin=0, vmax=1, extent=(*ends, *ends))
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)
        axes.set_xlabel("epoch")
        axes.set_ylabel("epoch")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))

    last = ", ".join(f"{value:.2f}" for value in found[-1])
    return Panel(name, f"Distance of each epoch to the last: {last}.", draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("truth", "heat"))
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path("truth.json"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    if given.what == "truth":
        given.output.write_text(json.dumps(truth_of(given.out[0]), indent=1) + "\n", "utf-8")
        return
    if (given.out[0] / "log.jsonl").is_file():
        panels = tuple(_panel(_title(folder), distances(indicators_of(folder))) for folder in given.out)
        drawn = [Picture("heat-of-trainings", "heat", CAPTION, panels)]
    else:
        drawn = heat_pictures(given.out[0])
    for path in write_pictures(drawn, given.figures):
        print(path)


if __name__ == "__main__":
    main()
