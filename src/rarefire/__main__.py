"""``python -m rarefire`` is the command line."""

from rarefire.cli import main

if __name__ == "__main__":
    main()
