import sys

from onecode.keys.process import main

sys.exit(main(sys.argv[1:]))
