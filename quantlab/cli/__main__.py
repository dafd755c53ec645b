"""`python -m quantlab.cli` is the `quantlab` program."""

from quantlab.cli import main

if __name__ == "__main__":
    main()
