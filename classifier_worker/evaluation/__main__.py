"""`python -m classifier_worker.evaluation`: what `docfleet evaluate` becomes."""

import sys

from classifier_worker.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())
