import sys

from onecode.enclave.process import main

sys.exit(main(sys.argv[1:]))
