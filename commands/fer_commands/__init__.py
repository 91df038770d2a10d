"""What `fer-client`, `fer-serve`, `fer-build`, `fer-train`, `fer-loadtest` and `fer-web` have in common.

    scripts       a console script and its subcommands, each loaded when it is chosen
    parser        argparse with one style of help and messages that name the remedy
    exit_codes    one table of exit codes
    running       runs a command: errors as one line, SIGTERM as Ctrl-C, a closed pipe
    messages      text that does no harm in any terminal

Standard library only. It imports no other room.
"""
