"""`python -m lenslet` is the command `lenslet`."""

from lenslet.run.cli import main

raise SystemExit(main())
