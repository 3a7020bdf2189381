"""BatchNorm recalibration: re-estimate running statistics, and study what it takes.

    import bnrecal

    report = bnrecal.recalibrate(model, batches, estimator="pooled", n_samples=1024)

Names are imported when first used, so that the command line starts without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnrecal import norms
    from bnrecal.doctor.diagnose import diagnose
    from bnrecal.doctor.finding import Diagnosis, Finding
    from bnrecal.errors import BnrecalError
    from bnrecal.integrations.update_bn import update_bn
    from bnrecal.recalibration.estimators import Cumulative, Ema, Estimator, Moments, Pooled
    from bnrecal.recalibration.recalibrate import recalibrate, recalibrated
    from bnrecal.recalibration.result import Recalibration
    from bnrecal.recalibration.statistics import Statistics

_ROOMS = ("norms",)  # whole packages, by attribute as well as by import
_HOMES = {
    "diagnose": "doctor.diagnose",
    **dict.fromkeys(("Diagnosis", "Finding"), "doctor.finding"),
    "BnrecalError": "errors",
    "update_bn": "integrations.update_bn",
    **dict.fromkeys(("Cumulative", "Ema", "Estimator", "Moments", "Pooled"), "recalibration.estimators"),
    **dict.fromkeys(("recalibrate", "recalibrated"), "recalibration.recalibrate"),
    "Recalibration": "recalibration.result",
    "Statistics": "recalibration.statistics",
}

__all__ = [
    "BnrecalError",
    "Cumulative",
    "Diagnosis",
    "Ema",
    "Estimator",
    "Finding",
    "Moments",
    "Pooled",
    "Recalibration",
    "Statistics",
    "diagnose",
    "norms",
    "recalibrate",
    "recalibrated",
    "update_bn",
]
__version__: str


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


if not TYPE_CHECKING:  # or a type checker would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        from importlib import import_module
        from importlib.metadata import version

        if name == "__version__":
            return version("bnrecal")
        if name in _ROOMS:
            return import_module(f"bnrecal.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'bnrecal' has no attribute {name!r}")
        return getattr(import_module(f"bnrecal.{_HOMES[name]}"), name)
