"""``python -m hypnic`` is the `hypnic` command."""

from hypnic.cli import main

main()
