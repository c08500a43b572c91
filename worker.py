"""`lenslet worker` in a checkout: the index process alone, with the settings of a `.env` here."""

import sys
from pathlib import Path

from lenslet.run.cli import main

if __name__ == "__main__":
    env_file = Path(__file__).with_name(".env")
    given = ["--env-file", str(env_file)] if env_file.exists() else []
    raise SystemExit(main(["worker", *given, *sys.argv[1:]]))
