"""`python -m winnow.cli`."""

from winnow.cli import main

main()
