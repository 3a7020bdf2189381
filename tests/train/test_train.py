import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bnrecal.networks.head import cell_centres
from bnrecal.networks.supernet import Supernet
from bnrecal.train.detection_loss import assign, detection_loss, generalized_iou

RECIPE = """
task = "tiny"
epochs = 2
batch_size = 32
max_lr = 0.004
warmup_fraction = 0.3
weight_decay = 0.1
clip_norm = 20.0
seed = 3
"""


def test_training_learns_and_keeps_no_statistics(bnrecal: Callable[..., Any]) -> None:
    """Two epochs on tiny: the loss falls, the log has a line an epoch, BatchNorms hold 0 and 1."""
    Path("recipe.toml").write_text(RECIPE)
    ran = bnrecal("train", "recipe.toml", "--out", "trained")
    assert ran.code == 0, ran.err
    log = [json.loads(line) for line in Path("trained/log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert log[1]["loss"] < log[0]["loss"]
    state = load_file("trained/weights.safetensors")
    Supernet().load_state_dict(state)
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            assert (tensor == 0).all()
        if name.endswith("running_var"):
            assert (tensor == 1).all()
    assert sorted(p.name for p in Path("trained").iterdir()) == [
        "log.jsonl",
        "recipe.toml",
        "weights.safetensors",
    ]


def test_the_shipped_recipe_is_read() -> None:
    """experiments/garments_supernet.toml is a whole recipe for the default task."""
    from bnrecal.train.recipe_file import read_recipe

    root = Path(__file__).parent.parent.parent
    assert read_recipe(root / "experiments" / "garments_supernet.toml").inputs == {"task": "garments"}


def test_the_shipped_recipe_repeats_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of the very file on tiny's images, in two processes with a thread each: one file of weights,
    one course of losses. Another seed gives others.
    """
    from tests.executors.processes import finish, start

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "experiments" / "garments_supernet.toml").read_text()
    assert text.count("epochs = 8") == text.count("seed = 0") == 1
    shorter = text.replace("epochs = 8", "epochs = 2")
    Path("shipped.toml").write_text(shorter)
    Path("another.toml").write_text(shorter.replace("seed = 0", "seed = 1"))
    made, losses = [], []
    for name, out in (("shipped", "first"), ("shipped", "second"), ("another", "third")):
        finish(start("train", f"{name}.toml", "--task", "tiny", "--out", out))
        made.append(Path(out, "weights.safetensors").read_bytes())
        lines = Path(out, "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert (made[0], losses[0]) == (made[1], losses[1])
    assert made[0] != made[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "recipe.toml: cannot be read"),
        ("epochs = [", "recipe.toml: not a TOML file"),
        (RECIPE.replace("epochs = 2", "epochs = 0"), "recipe.toml: epochs"),
        (RECIPE + "colour = 1\n", "recipe.toml: colour"),
    ],
)
def test_bad_recipes_are_named(bnrecal: Callable[..., Any], text: str | None, message: str) -> None:
    """One line with file and setting, exit code 2, nothing written."""
    if text is not None:
        Path("recipe.toml").write_text(text)
    ran = bnrecal("train", "recipe.toml", "--out", "trained")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert not Path("trained").exists()


def test_the_smaller_of_two_boxes_gets_the_cell() -> None:
    """Cells near both centres answer for the smaller box; far ones and absent objects for none."""
    boxes = torch.tensor([[[8.0, 8, 56, 56], [24, 24, 40, 40], [0, 0, 64, 64]]])
    assigned = assign(boxes, torch.tensor([2]), cell_centres(8, 8), 8).view(8, 8)
    assert assigned[3, 3] == 1  # centre (28, 28)
    assert assigned[0, 0] == -1
    assert set(assigned.flatten().tolist()) <= {-1, 0, 1}


def test_generalized_iou_by_hand() -> None:
    """Equal boxes 1; two unit squares with a gap of one: IoU 0, GIoU -(3 - 2) / 3."""
    a = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    b = torch.tensor([[0.0, 0, 1, 1], [2, 0, 3, 1]])
    iou, giou = generalized_iou(a, b)
    assert iou.tolist() == [1, 0]
    assert giou.tolist() == pytest.approx([1, -1 / 3])


def test_the_loss_falls_towards_the_right_answer() -> None:
    """Right box and class cost less than a shifted box, which costs less than the wrong class too."""
    truth = torch.tensor([[[8.0, 8, 24, 24]]])
    assigned = torch.tensor([[0]])
    right = torch.full((1, 1, 10), -8.0)
    right[0, 0, 4] = 8.0
    wrong = right.roll(1, -1)
    labels = torch.tensor([[4]])
    costs = [
        detection_loss(box[None], logits, truth, labels, assigned).item()
        for box, logits in [(truth[0], right), (truth[0] + 4, right), (truth[0] + 4, wrong)]
    ]
    assert costs[0] < 0.01
    assert costs[0] < costs[1] < costs[2]
