"""Draw update and eval mAP@0.5 against the number of updates, published beside measured.

    python experiments/draw_law.py results/published_grid/rows.jsonl results/published_grid/law.svg

Each line is the law update = A (1 - k0 / N), one A and one k0 an architecture, fitted on N >= 80.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

PUBLISHED = Path(__file__).parent.parent / "bnrecal" / "report" / "published_recalibration.csv"
MARKS = {"arch1": ("o", "-", "#1b6ca8"), "arch2": ("s", "--", "#c2571a"), "arch3": ("^", ":", "#2d7d46")}


def published() -> pd.DataFrame:
    cells = pd.read_csv(PUBLISHED)
    cells["n_updates"] = cells.samples / cells.batch_size
    return cells.rename(columns={"update_map50": "update", "eval_map50": "eval"})


def measured(path: Path) -> pd.DataFrame:
    rows = pd.read_json(path, lines=True)
    return rows[rows.status == "done"]


def draw(axes: plt.Axes, cells: pd.DataFrame, title: str) -> None:
    for arch, (mark, dash, colour) in MARKS.items():
        mine = cells[cells.arch == arch]
        far = mine[mine.n_updates >= 80]
        slope, level = np.polyfit(1 / far.n_updates, far["update"], 1)
        n = np.geomspace(36, 1400, 200)
        label = f"{arch}: A {level:.3f}, k0 {-slope / level:.1f}"
        axes.plot(n, level + slope / n, dash, color=colour, lw=1.3, label=label)
        axes.plot(mine.n_updates, mine["update"], mark, color=colour, ms=5)
        axes.plot(mine.n_updates, mine["eval"], mark, color=colour, ms=5, mfc="none")
    axes.set_xscale("log")
    axes.set_xticks([40, 80, 160, 320, 640, 1280], ["40", "80", "160", "320", "640", "1280"])
    axes.minorticks_off()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("updates N = samples / batch size")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right", frameon=False)


def main(rows: Path, out: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "bnrecal"  # the same file every time
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    draw(left, published(), "published")
    draw(right, measured(rows), "measured here")
    left.set_ylabel("mAP@0.5 (filled: update, open: eval)")
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
