"""The index process alone, for a host that only indexes."""

from lenslet.run import work

if __name__ == "__main__":
    raise SystemExit(work())
