"""`python -m jaxgen`."""

import sys

from jaxgen.cli import main

sys.exit(main())
