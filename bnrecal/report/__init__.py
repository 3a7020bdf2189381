"""Reports read the store and nothing else: no torch, no trial is run."""
