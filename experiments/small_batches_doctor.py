"""What the doctor says would help where batches are small: small_batches.toml's rows as its table.

    python experiments/small_batches_doctor.py results/small_batches > bnrecal/doctor/small_batches.csv

A line for each norm and norm batch: points of top-1 against BatchNorm as it stands at the same norm batch,
with the 95 % interval, adjusted for all comparisons.
"""

import sys
from pathlib import Path

from bnrecal.report.analysis.by_axes import variants_of
from bnrecal.report.analysis.norm_findings import comparisons
from bnrecal.report.analysis.uncertainty import Uncertainty
from bnrecal.store.store import Store


def main(folder: Path) -> None:
    rows = Store(folder).evaluated()
    (variants,) = variants_of(rows, None, None)
    print("norm,norm_batch,points,low,high,n_trainings")
    for _, size, gaps in comparisons(variants, Uncertainty(folder, rows)):
        for norm, (gap, n_trainings) in gaps.items():
            assert gap.low is not None
            assert gap.high is not None
            figures = ",".join(f"{100 * value:.2f}" for value in (gap.mean, gap.low, gap.high))
            print(f"{norm},{size},{figures},{n_trainings}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
