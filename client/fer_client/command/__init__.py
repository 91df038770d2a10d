"""The subcommands of `fer-client`, which `fer_client.cli` puts together.

    predict       pictures to faces and their apparent expressions
    video         the same over time, by `fer_client.video`
    status        `health`: does the server answer? `info`: what does it serve?
    bench         how fast does it answer?
    completion    prints a script of `completions`, which complete words in bash, zsh and fish

    options        what all subcommands share
    connection     URL, token and the other settings: flag, environment, file, default
    config_file    reads the file
    image_paths    finds the pictures that arguments name
    records        results as a table, JSON, JSON lines or CSV
    output         where results go, in which format, and how `--resume` goes on
    annotate       pictures with their faces drawn: which file, and whether it can be written
    photo_drawing  how they look
    progress       the bars on standard error

Nothing here loads NumPy, tritonclient or Pillow before it is used: `--help` and a mistyped option answer at once.
Parser, exit codes and messages are those of all commands, in `fer_commands`.
"""
