"""``python -m stunet_deploy`` is the program ``stunet``."""

import sys

from stunet_deploy.cli import main

sys.exit(main())
