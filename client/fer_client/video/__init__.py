"""Faces and their apparent expressions over time, in a video file, a stream or a camera: `fer-client video`.

    command      the command line
    settings     how it is done, and what is usual

    inputs       opens what the user named, and nothing else
    decoding     decodes it, past damage and lost connections
    pictures     decoded frames as viewers see them: upright, square pixels, RGB
    clock        times of frames, believed within bounds; times for people
    frames       frames and their times, as JPEG: what comes of these four
    scenes       sees where the video is cut
    analysis     frames go to the server, sightings come out
    tracking     tells which face is which from frame to frame
    smoothing    steadies the probabilities of a track, and its label
    sightings    what was seen in one frame

    recording    what sightings go into: the timeline in JSON Lines, and all of these:
    annotated    the video with its faces drawn, by `drawing`
    episodes     how long which expression was seen
    history      probabilities over time, in bounded memory
    plot         draws these

    report       the table and the JSON document in the end
    progress     the bar on standard error
    palette      a colour for each label
    errors       what keeps a video from being read or written

What is more than NumPy is the extra `video`: PyAV reads and writes videos, Pillow makes JPEGs of frames and draws on
them, matplotlib plots. They are loaded when they are used, and whoever lacks one is told so in one line.

A track is a face followed through one scene of one video. Nobody is recognised: who leaves and comes back later is a
new track, and numbers mean nothing beyond their video.
"""
