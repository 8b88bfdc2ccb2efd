"""`minbert`; torchrun starts it as `python -m multitask`."""

from lab.terminal import errors_as_messages


def main() -> None:
    """Run the command line."""
    with errors_as_messages():  # around the import too, where Ctrl-C may come
        from multitask.commands.main import main as run
    run()


if __name__ == "__main__":
    main()
