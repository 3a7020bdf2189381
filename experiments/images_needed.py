"""How many images until eval is within a tolerance of what the whole calibration set gives.

    python experiments/images_needed.py results/images_needed [tolerance]

Reads FOLDER/rows.jsonl, writes FOLDER/table.md and prints it. The reference of each architecture is
`pooled` over the whole set at the largest batch size. A count suffices if eval lies within the
tolerance for it and for every larger count tried, on all architectures.
"""

import sys
from pathlib import Path

import pandas as pd

from bnrecal.study.axes import TOLERANCE


def table(rows: pd.DataFrame, tolerance: float) -> str:
    whole, largest = rows.n_samples.max(), rows.batch_size.max()
    best = rows[(rows.estimator == "pooled") & (rows.n_samples == whole) & (rows.batch_size == largest)]
    reference = best.set_index("arch")["eval"]
    rows = rows.assign(short=(rows["eval"] - rows.arch.map(reference)).abs())
    out = {}
    for (estimator, batch_size), cells in rows.groupby(["estimator", "batch_size"]):
        worst = cells.groupby("n_samples").short.max().sort_index(ascending=False)
        enough = worst[(worst <= tolerance).cummin()]
        needed = f"{enough.index.min():,}" if len(enough) else "not reached"
        out.setdefault(estimator, {})[f"bs {batch_size}"] = needed
    order = [name for name in ("ema", "cumulative", "pooled", "exact") if name in out]
    heading = (
        f"Images needed until eval mAP@0.5 is within {tolerance:g} of `pooled` over all {whole:,} images "
        f"({', '.join(f'{a} {v:.4f}' for a, v in reference.items())}), and stays there, on all three:\n\n"
    )
    return (
        heading
        + pd.DataFrame(out)
        .T.loc[order]
        .fillna("not run")
        .to_markdown(stralign="right", disable_numparse=True)
        + "\n"
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    done = pd.read_json(folder / "rows.jsonl", lines=True).query("status == 'done'")
    text = table(done, float(sys.argv[2]) if len(sys.argv) > 2 else TOLERANCE)
    (folder / "table.md").write_text(text)
    print(text)
