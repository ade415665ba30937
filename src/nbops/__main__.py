"""`python -m nbops` is `nbops`."""

import sys

from nbops.cli import main

sys.exit(main())
