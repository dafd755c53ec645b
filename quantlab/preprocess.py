"""`python -m quantlab.preprocess --input IN --output OUT` is another way of calling `quantlab preprocess`."""

from __future__ import annotations

import sys

from quantlab.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["preprocess"]
    main()
