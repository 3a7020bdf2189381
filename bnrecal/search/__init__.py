"""Choosing among architectures: a space, what they cost, how they are judged, and who is best."""
