"""Ways to run passes. All give the same rows; `inline` is the reference."""
