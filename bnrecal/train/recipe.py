"""A training recipe: a small TOML file that says how weights were made."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bnrecal.errors import BnrecalError


class Recipe(BaseModel):
    """How to train the embedded supernet by uniform path sampling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "garments"
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    max_lr: float = Field(gt=0)  # AdamW, one cycle
    warmup_fraction: float = Field(gt=0, lt=1)  # of all steps, rising to max_lr
    weight_decay: float = Field(ge=0)  # on convolution weights alone
    clip_norm: float = Field(gt=0)  # of the whole gradient
    seed: int = Field(ge=0, lt=2**63)


def read_recipe(path: Path) -> Recipe:
    """Raises BnrecalError naming the file and the first setting that does not fit."""
    try:
        return Recipe(**tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise BnrecalError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BnrecalError(f"{path}: not a TOML file: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BnrecalError(f"{path}: {first['loc'][0]}: {first['msg']}") from None
