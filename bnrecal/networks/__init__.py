"""Network sources: who names architectures and builds them. Nothing here imports torch."""

from bnrecal.networks.embedded import EmbeddedSupernet
from bnrecal.networks.network import NetworkSource


def get() -> NetworkSource:
    """The source of the default study's networks."""
    return EmbeddedSupernet()
