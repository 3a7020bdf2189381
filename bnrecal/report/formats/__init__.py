"""How it is shown: terminal, Markdown, LaTeX, the page, figures, files for machines."""
