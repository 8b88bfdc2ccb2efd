"""`python -m multitask` is `minbert`: torchrun starts it by this name."""

from multitask.cli import main

if __name__ == "__main__":
    main()
