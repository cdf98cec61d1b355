"""Run the command line: `python -m rtobserver`."""

from rtobserver.cli import main

if __name__ == "__main__":
    main()
