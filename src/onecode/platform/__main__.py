"""`python -m onecode.platform CONFIG.json`"""

import sys

from onecode.platform.process import main

sys.exit(main(sys.argv[1:]))
