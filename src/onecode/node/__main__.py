import sys

from onecode.node.process import main

sys.exit(main(sys.argv[1:]))
