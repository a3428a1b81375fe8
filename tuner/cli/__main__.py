"""`python -m tuner.cli` is `tuner`."""

from tuner.cli import main

if __name__ == "__main__":  # a process that multiprocessing spawns imports this module again
    main()
