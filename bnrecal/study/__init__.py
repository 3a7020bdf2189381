"""What the user asked for, as plain data: inputs, a grid, its cells, and which of them."""
