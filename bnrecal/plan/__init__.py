"""From what was asked for to what is to do: a study opened, its cells, the passes that serve them."""
