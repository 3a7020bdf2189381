"""From a study to rows: planned, handed out, watched, repeated."""
