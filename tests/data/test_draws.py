import numpy as np

from bnrecal.data.draws import _mix, draws, permutation, stream_key


def test_mix_is_splitmix64() -> None:
    """The first outputs of splitmix64 from seed 0, as its authors publish them."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([golden * k % 2**64 for k in (1, 2, 3)], np.uint64)
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert _mix(states).tolist() == published


def test_a_draw_depends_on_stream_item_and_position_alone() -> None:
    """Asking for other items or more draws changes none."""
    stream = stream_key("a", 1)
    many = draws(stream, np.arange(10), 5)
    assert np.array_equal(many[7:8, :3], draws(stream, np.array([7]), 3))
    assert not np.array_equal(many, draws(stream_key("a", 2), np.arange(10), 5))


def test_permutation_is_fixed_and_whole() -> None:
    """Every item once; pinned, because the order is part of every stored figure."""
    order = permutation(stream_key("garments-order", 0), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert order[:5].tolist() == PINNED_ORDER


PINNED_ORDER = [459, 611, 830, 726, 758]
