"""The averages that train.py wrote, as networks of a study: "SCHEDULE.AVERAGE.SEED".

`averaged` has BatchNorm's statistics averaged as the weights are (timm's ModelEma, torch's use_buffers=True,
`bnrecal average`), `copied` those of the weights trained last (torch's AveragedModel by default).
"""

from collections.abc import Callable
from pathlib import Path

from residual import net
from safetensors.torch import load_file
from torch import nn

TRAINED = Path(__file__).parent / "trained"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Averages:
    """A source: its names, and a fresh network for each."""

    def __init__(self, make: Callable[[], nn.Module], copied: bool) -> None:
        self.make, self.copied = make, copied
        files = sorted(TRAINED.glob("*/[0-9]*/*.safetensors"))
        if not files:
            raise FileNotFoundError(f"no networks in {TRAINED}; run train.py first")
        self.files = {f"{f.parent.parent.name}.{f.stem}.{f.parent.name}": f for f in files}
        if copied:
            self.files = {name: file for name, file in self.files.items() if file.stem != "last"}
        self.archs = tuple(self.files)

    def build(self, arch: str) -> nn.Module:
        state = load_file(self.files[arch])
        if self.copied:
            last = load_file(self.files[arch].with_name("last.safetensors"))
            state |= {name: last[name] for name in last if name.rpartition(".")[2] in STATISTICS}
        module = self.make()
        module.load_state_dict(state)
        return module


def averaged(n_classes: int) -> Averages:
    return Averages(lambda: net(n_classes), copied=False)


def copied(n_classes: int) -> Averages:
    return Averages(lambda: net(n_classes), copied=True)
