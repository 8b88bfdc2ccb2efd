"""What each command does: a dataclass a command, its fields the flags, its docstrings the help."""
