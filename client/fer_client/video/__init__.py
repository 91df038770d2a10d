"""Faces and their apparent expressions over time, in a video file, a stream or a camera. `command.video` is its user.

    inputs       opens what the user named, and nothing else
    decoding     decodes it, past damage and lost connections, to pictures as viewers see them
    clock        times of frames, believed within bounds; times for people
    frames       frames with their times and cuts, as JPEG: what the three above are for

    analysis     frames go to the server, sightings come out
    tracking     tells which face is which from frame to frame
    smoothing    steadies the probabilities of a track, and its label
    sightings    what was seen in one frame, and the episodes that sightings make

    recording    what sightings go into: the timeline in JSON Lines, and the three below
    annotated    the video with its faces drawn
    plot         probabilities over time
    report       the table and the JSON document in the end

    settings     how a video is analysed, and what is usual
    errors       what keeps a video from being read or written

What needs more than NumPy is the extra `video`: PyAV reads and writes videos, Pillow makes JPEGs of frames and draws on
them, matplotlib plots. They are loaded when they are used, and where one is missing, one line says so.

A track is a face followed through one scene of one video. Nobody is recognised: a face that leaves and comes back later
is a new track, and numbers mean nothing beyond their video.
"""
