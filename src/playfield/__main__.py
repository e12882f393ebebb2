"""`python -m playfield` is the command line."""

from playfield.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
