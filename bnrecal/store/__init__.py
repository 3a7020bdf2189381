"""What came out, on disk: rows, evidence, claims, and the way back from a row to its cell."""
