"""`python -m eventrouter` is `eventrouter`."""

from .cli import main

main()
