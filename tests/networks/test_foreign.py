"""Networks from elsewhere: determinism, digests, detectors' output, and grouped evaluation's limits."""

import pytest
import torch
from torch import nn

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.networks.torchvision_models import detector_forward, flat_detections
from bnrecal.networks.weights_file import read_weights  # noqa: F401
from bnrecal.recalibration.grouped import GroupedEvaluation
from bnrecal.study.inputs import Inputs


class Purpose:
    name, metric, classes, input_shape = "a task", "top1", ("a", "b", "c"), (3, 32, 32)


def test_untrained_networks_are_the_same_each_time() -> None:
    """Initial weights have a seed of their own: one digest, whatever was drawn before."""
    source = networks.of(Inputs(model="torchvision:squeezenet1_1"), Purpose())
    first = source.digest("squeezenet1_1")
    torch.rand(100)
    state = torch.random.get_rng_state()
    assert networks.of(Inputs(model="torchvision:squeezenet1_1"), Purpose()).digest("squeezenet1_1") == first
    assert torch.equal(torch.random.get_rng_state(), state)  # nor does it draw from anybody's generator
    assert source.note is not None


def test_the_digest_sees_every_tensor() -> None:
    """One changed value in a buffer or weight gives another digest."""
    source = networks.of(Inputs(model="torchvision:shufflenet_v2_x0_5"), Purpose())
    first = source.digest("shufflenet_v2_x0_5")
    build = source.build

    def changed(arch: str) -> networks.network.Network:
        network = build(arch)
        with torch.no_grad():
            next(network.module.buffers()).view(-1)[0] += 1e-3
        return network

    source.build = changed  # type: ignore[method-assign]
    assert source.digest("shufflenet_v2_x0_5") != first


def test_two_builds_share_nothing() -> None:
    """Recalibrating one network leaves the next as it was built."""
    source = networks.get()
    one, two = source.build("arch1").module, source.build("arch1").module
    assert not {p.data_ptr() for p in one.state_dict().values()} & {
        p.data_ptr() for p in two.state_dict().values()
    }


def test_detectors_output_as_flat_arrays() -> None:
    """x1 y1 x2 y2 becomes x y w h, background is taken off the labels, images are counted on."""
    outputs = [
        {"boxes": torch.tensor([[1.0, 2, 4, 8]]), "labels": torch.tensor([3]), "scores": torch.tensor([0.5])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)},
        {
            "boxes": torch.tensor([[0.0, 0, 1, 1]]),
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.25]),
        },
    ]
    found = flat_detections(outputs)
    assert found.image.tolist() == [0, 2]
    assert found.boxes.tolist() == [[1, 2, 3, 6], [0, 0, 1, 1]]
    assert found.labels.tolist() == [2, 0]
    assert found.scores.tolist() == [0.5, 0.25]
    assert callable(detector_forward)


def test_batches_are_not_mixed_where_a_norm_keeps_no_statistics() -> None:
    """Such a layer normalises by batch in evaluation too: grouping would change its figures."""
    untracked = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
    assert not GroupedEvaluation.can_serve(untracked)
    assert GroupedEvaluation.can_serve(untracked[:1])


def untrained() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3072, 3))


class Unusual(nn.Module):
    """A sparse buffer, a complex one, and state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = untrained()
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("complex", torch.zeros(3, dtype=torch.complex64))

    def get_extra_state(self) -> object:
        return {"steps": 3}

    def set_extra_state(self, state: object) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("factory", ["untrained", "Unusual"])
def test_a_factory_s_initial_weights_are_the_same_each_time(factory: str) -> None:
    """Every process of a sweep calls the factory anew: all must get the network whose digest is stored."""
    model = Inputs(model=f"tests.networks.test_foreign:{factory}")
    state = torch.random.get_rng_state()
    digests = {networks.of(model, Purpose()).digest(factory) for _ in range(2)}
    assert len(digests) == 1
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "r3d_18"])
def test_preprocessing_of_what_is_no_classifier(name: str) -> None:
    with pytest.raises(BnrecalError, match=f"{name}' of torchvision is no classifier of images"):
        networks.preprocessing(Inputs(model=f"torchvision:{name}", preprocess="model"), "top1")


def test_timm_s_crop_mode_and_tags() -> None:
    """A model that was evaluated on stretched images is given stretched images."""
    pytest.importorskip("timm")
    found = networks.preprocessing(Inputs(model="timm:tf_efficientnetv2_m", preprocess="model"), "top1")
    assert (found["fit"], "resize" in found) == ("stretch", False)
    for call in (networks.preprocessing, lambda inputs, _: networks.of(inputs, Purpose())):
        with pytest.raises(BnrecalError, match="Invalid pretrained tag"):
            call(Inputs(model="timm:resnet18.nonsense", preprocess="model"), "top1")
