"""`lenslet worker` in a checkout: the index process alone."""

import sys

from lenslet.run.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["worker", *sys.argv[1:]]))
