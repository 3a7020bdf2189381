import hashlib

import pytest
import torch
from torch import nn

from bnrecal import networks
from bnrecal.errors import BnrecalError
from bnrecal.networks import embedded
from bnrecal.networks.embedded import NAMED, parse_arch
from bnrecal.networks.operations import OPERATIONS
from bnrecal.networks.supernet import N_BLOCKS, N_CLASSES, N_DISTANCES, Supernet


def test_names_and_network_agree() -> None:
    """The torch-free table of architectures has the supernet's blocks and operations."""
    assert (N_BLOCKS, len(OPERATIONS)) == (embedded.N_BLOCKS, embedded.N_OPERATIONS)
    assert N_BLOCKS >= 6
    assert len(OPERATIONS) >= 4


def test_every_candidate_ends_in_an_affine_batchnorm() -> None:
    """So that a path can be judged by its BatchNorms alone; the head has one too."""
    supernet = Supernet()
    for block in supernet.blocks:
        assert isinstance(block, nn.ModuleList)
        for candidate in block:
            assert isinstance(candidate, nn.Sequential)
            assert isinstance(candidate[-1], nn.BatchNorm2d)
            assert candidate[-1].affine
    assert any(isinstance(m, nn.BatchNorm2d) for m in supernet.head)


@pytest.mark.parametrize("choices", [(0,) * 8, (3,) * 8, (0, 1, 2, 3, 3, 2, 1, 0)])
def test_a_subnet_holds_its_own_path_and_shares_its_weights(choices: tuple[int, ...]) -> None:
    """One operation a block, the supernet's own tensors, the head's grid out."""
    supernet = Supernet()
    subnet = supernet.subnet(choices)
    own = {id(p) for p in subnet.parameters()}
    for block, choice in zip(supernet.blocks, choices, strict=True):
        assert isinstance(block, nn.ModuleList)
        for k, candidate in enumerate(block):
            assert all((id(p) in own) == (k == choice) for p in candidate.parameters())
    assert subnet(torch.zeros(2, 1, 64, 64)).shape == (2, N_DISTANCES + N_CLASSES, 8, 8)


def test_shipped_weights_never_kept_statistics() -> None:
    """Every BatchNorm of every named architecture holds mean 0 and variance 1; the file is small."""
    assert len(embedded._shipped_weights()) <= 4_000_000
    for arch in NAMED:
        for module in networks.get().build(arch).module.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                assert (module.running_mean == 0).all()
                assert (module.running_var == 1).all()


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose digest is another one is named together with the remedy."""
    monkeypatch.setattr(embedded, "WEIGHTS_SHA256", hashlib.sha256(b"other").hexdigest())
    embedded._shipped_weights.cache_clear()
    with pytest.raises(BnrecalError, match=r"garments_supernet.safetensors: damaged.*install"):
        networks.get().check("arch1")
    embedded._shipped_weights.cache_clear()


@pytest.mark.parametrize("arch", ["", "arch4", "0-0-0", "0-0-0-0-0-0-0-4", "0-0-0-0-0-0-0-0-0", "a-b"])
def test_unknown_architectures_list_the_known(arch: str) -> None:
    """The error names the value, the named architectures and the form of the others."""
    with pytest.raises(BnrecalError, match=r"--arch.*arch1, arch2, arch3 or 8 choices from 0 to 3"):
        parse_arch(arch)


def test_a_path_names_the_same_network_as_its_name() -> None:
    """arch1 and its digits have one digest; other paths have others."""
    source = networks.get()
    assert source.digest("arch1") == source.digest(NAMED["arch1"])
    assert len({source.digest(arch) for arch in NAMED}) == 3
