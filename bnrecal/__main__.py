"""`python -m bnrecal` is the command line."""

from bnrecal.cli import main

if __name__ == "__main__":
    main()
