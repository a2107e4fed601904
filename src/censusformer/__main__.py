"""`python -m censusformer` is the command `censusformer`."""

from censusformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
