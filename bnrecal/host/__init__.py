"""The machine: files, devices, signals, and what a row says of them."""
