"""Serves a model repository with the real Triton on this machine, and keeps it alive.

cli               the command `fer-serve`
run, soak         its subcommands; `probe` is one too
server            one Triton, started and stopped as a whole: `EmbeddedTriton`, `serving`
embedded_triton   the tritonserver inside the wheel `nvidia-pytriton`
guard             the process that stops Triton in order and leaves nothing of it behind
triton_processes  Triton's processes, watched from outside
probe             real inferences that prove a server alive
"""
