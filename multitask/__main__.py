"""`python -m multitask` is `minbert`, as torchrun starts it."""

from lab.__main__ import main

if __name__ == "__main__":
    main()
