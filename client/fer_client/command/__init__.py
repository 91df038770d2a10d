"""The command `fer-client`; `fer_client.cli` puts it together. `video` has a room of its own, `fer_client.video`.

    predict       pictures to faces and their apparent expressions
    health        does the server answer?
    info          what does it serve?
    bench         how fast does it answer?
    completion    completes words in bash, zsh and fish

    settings      URL, token and the rest: flag, environment, file, default
    config_file   reads that file
    sources       finds the pictures that arguments name
    records       results as a table, JSON, JSON lines or CSV
    table         how the tables look
    output        where they go, and in which format
    annotate      pictures with their faces drawn: which file, and whether it can be written
    drawing       how they look
    resume        goes on where a file of results ends
    progress      the bar on standard error
    options       what the parsers of all subcommands share
    parser        what is said about a command line that is wrong
    words         which word a mistyped one was meant to be
    interrupt     SIGTERM ends it as Ctrl-C does
    ending        exit codes, and lines that do no harm in any terminal

Nothing here loads numpy, tritonclient or Pillow before it is used: `--help` and a mistyped option answer at once.
"""
