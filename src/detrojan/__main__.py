"""`python -m detrojan`: the command line, where its script is not on the path."""

from detrojan.cli.main import main

if __name__ == "__main__":
    main()
