"""Streams over the network, from servers on this machine: what is opened, what is not, and lost connections."""

import argparse
import http.server
import itertools
import socketserver
import struct
import threading
import time

import pytest
from clips import moving, scenery, write_clip

from fer_client import FerClient
from fer_client.command.video import add_video_command, run
from fer_client.video import decoding
from fer_client.video.errors import VideoError
from fer_client.video.frames import VideoSource
from fer_commands.running import CommandError

PICTURES = moving(scenery(), [(index, 0) for index in range(60)])


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Before a try to connect again."""
    monkeypatch.setattr(decoding, "_LONGEST_WAIT_S", 0.05)


class Web(http.server.ThreadingHTTPServer):
    """Serves a folder and notes what it was asked for."""

    daemon_threads = True

    def __init__(self, folder):
        self.asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(handler, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def do_GET(handler):
                self.asked.append(handler.path)
                super().do_GET()

            def log_message(handler, *arguments):
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *arguments):
        """A client that has seen enough hangs up."""


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    with Web(tmp_path / "web") as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def write_playlist(folder, *segments, name="list.m3u8", is_over=True):
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", *(f"#EXTINF:1,\n{segment}" for segment in segments)]
    (folder / name).write_text("\n".join(lines + ["#EXT-X-ENDLIST"] * is_over) + "\n")


def write_segments(folder):
    """Two of a second each; their clocks both start at the same time, and the playlist does not say so."""
    for index in range(2):
        write_clip(folder / f"{index}.ts", PICTURES[30 * index :][:30], codec="mpeg2video")
    return ["0.ts", "1.ts"]


def test_a_playlist_is_read_to_its_end_and_nothing_else(web, tmp_path):
    write_playlist(tmp_path / "web", *write_segments(tmp_path / "web"))
    (tmp_path / "web" / "2.ts").write_bytes(b"another")
    with VideoSource(f"http://127.0.0.1:{web.server_port}/list.m3u8") as source:
        frames = list(source.frames())
    assert len(frames) == 60
    assert frames[-1].time_s == pytest.approx(59 / 30, abs=0.05)
    assert (source.size, source.problem, source.damaged) == ((320, 240), None, 0)
    assert set(web.asked) == {"/list.m3u8", "/0.ts", "/1.ts"}


def test_a_segment_that_is_missing_is_passed_and_counted(web, tmp_path):
    first, second = write_segments(tmp_path / "web")
    write_playlist(tmp_path / "web", first, "none.ts", second)
    with VideoSource(f"http://127.0.0.1:{web.server_port}/list.m3u8") as source:
        assert len(list(source.frames())) == 60
        assert (source.problem, source.damaged) == (None, 1)


def test_a_video_file_at_an_address_is_read(web, tmp_path):
    write_clip(tmp_path / "web" / "clip.mp4", PICTURES, muxing={"movflags": "+faststart"})
    with VideoSource(f"http://127.0.0.1:{web.server_port}/clip.mp4?token=secret") as source:
        assert len(list(source.frames())) == 60
        assert source.name == f"http://127.0.0.1:{web.server_port}/clip.mp4"


@pytest.mark.parametrize("segment", ["file://{}", "{}", "concat:{}|{}", "subfile,,start,0,end,0,,:{}", "crypto:{}",
                                     "crypto+file:{}", "data:video/mp2t;base64,AAAA", "async:file:{}"])  # fmt: skip
def test_a_playlist_opens_no_file_of_this_machine(web, tmp_path, segment):
    """The file is there and would play."""
    clip = write_clip(tmp_path / "private.ts", PICTURES, codec="mpeg2video")
    write_playlist(tmp_path / "web", segment.replace("{}", str(clip)))
    with pytest.raises(VideoError, match=r"cannot (open|decode) http://127\.0\.0\.1:\d+/list\.m3u8: "):
        VideoSource(f"http://127.0.0.1:{web.server_port}/list.m3u8")


def test_an_address_where_nothing_is_is_said_with_its_reason(web):
    with pytest.raises(
        VideoError, match=r"cannot open http://127\S+/none\.m3u8: Server returned 404 Not Found; expected"
    ):
        VideoSource(f"http://127.0.0.1:{web.server_port}/none.m3u8")
    with pytest.raises(VideoError, match=r"cannot open rtsp://127\S+/x: Connection refused; expected a stream"):
        VideoSource("rtsp://127.0.0.1:9/x")


class Camera(socketserver.ThreadingTCPServer):
    """Speaks as much RTSP as is needed to send MPEG-TS within its connection, and asks for a password.

    Attributes:
        sessions: So many are served, later ones are turned away. Each sends the whole clip and ends.
        asked: The request lines that came.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, clip, sessions=1):
        self.clip = clip
        self.sessions = sessions
        self.connections = 0
        self.asked = []
        super().__init__(("127.0.0.1", 0), CameraHandler)

    @property
    def url(self):
        return f"RTSP://me:se%40cret@127.0.0.1:{self.server_address[1]}/live?token=secret"

    def handle_error(self, *arguments):
        """A client that has seen enough hangs up."""


HEADERS = {
    "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n",
    "DESCRIBE": "Content-Type: application/sdp\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
}


class CameraHandler(socketserver.StreamRequestHandler):
    SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
    PASSWORD = "Basic bWU6c2VAY3JldA=="  # me:se@cret

    def handle(self):
        self.server.connections += 1
        if self.server.connections > self.server.sessions:
            return
        while lines := list(itertools.takewhile(bool, iter(lambda: self.rfile.readline().decode().strip(), None))):
            headers = dict(line.split(": ", 1) for line in lines[1:])
            method = lines[0].split()[0]
            self.server.asked.append(lines[0])
            if headers.get("Authorization") != self.PASSWORD:
                self.reply(headers, "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n')
                continue
            self.reply(headers, "200 OK", HEADERS[method], self.SDP if method == "DESCRIBE" else "")
            if method == "PLAY":
                self.play()
                return

    def reply(self, headers, status, more, body=""):
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers['CSeq']}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self.wfile.write((head + body).encode())

    def play(self):
        """Seven packets of the transport stream in each RTP packet, with the channel before it. RFC 2326, 10.12."""
        for number, start in enumerate(range(0, len(self.server.clip), 7 * 188)):
            rtp = struct.pack(">BBHII", 0x80, 33, number, 3000 * number, 1) + self.server.clip[start : start + 7 * 188]
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)


@pytest.fixture
def start_camera(tmp_path):
    servers = []

    def start(sessions=1):
        clip = write_clip(tmp_path / "camera.ts", PICTURES, codec="mpeg2video").read_bytes()
        servers.append(Camera(clip, sessions))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_camera_over_rtsp_is_read_until_it_is_gone(start_camera):
    camera = start_camera()
    with VideoSource(camera.url) as source:
        frames = list(source.frames())
    name = f"rtsp://127.0.0.1:{camera.server_address[1]}/live"
    assert (source.name, source.size, source.expected_frames) == (name, (320, 240), None)
    assert len(frames) == pytest.approx(60, abs=2)
    assert frames[-1].time_s == pytest.approx(59 / 30, abs=0.1)
    assert source.problem == f"{name} ended or was lost, and 5 tries to connect again failed"
    assert camera.connections == 1 + 5


def test_a_lost_connection_is_made_again_and_time_goes_on(start_camera):
    camera = start_camera(sessions=3)
    with VideoSource(camera.url) as source:
        frames = list(source.frames())
    assert len(frames) == pytest.approx(180, abs=6)
    assert [frame.number for frame in frames] == list(range(len(frames)))
    times_s = [frame.time_s for frame in frames]
    assert all(0 < later - earlier < 1 for earlier, later in itertools.pairwise(times_s))
    assert times_s[-1] > 5.5
    assert "was lost and connected again 2 times" in source.notes()[-1]
    assert not any("jump" in note for note in source.notes())


def test_reading_ends_when_enough_was_seen(start_camera):
    camera = start_camera(sessions=100)
    with VideoSource(camera.url) as source:
        assert len(list(source.frames(until_s=1.0))) == 30
        assert source.problem is None


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    from fer_client.video import inputs

    monkeypatch.setattr(inputs, "_CONNECT_TIMEOUT_S", 0.5)
    with socketserver.TCPServer(("127.0.0.1", 0), None) as silent:
        started_s = time.monotonic()
        with pytest.raises(VideoError, match=r"cannot open rtsp://127\.0\.0\.1:\d+/x: no answer in time; expected"):
            VideoSource(f"rtsp://me:secret@127.0.0.1:{silent.server_address[1]}/x")
        assert time.monotonic() - started_s < 10


def test_a_password_is_shown_nowhere(start_camera, fake_triton, tmp_path, capsys):
    """Neither in the output nor in any file, however it ends."""
    camera = start_camera()
    parser = argparse.ArgumentParser()
    add_video_command(parser.add_subparsers())
    outputs = ["--timeline", tmp_path / "t.jsonl", "--annotate", tmp_path / "a.mp4", "--plot", tmp_path / "p.png"]
    with FerClient(fake_triton.url("grpc"), retries=0) as client:
        assert run(parser.parse_args(["video", camera.url, *map(str, outputs)]), client) == 5
        assert run(parser.parse_args(["video", start_camera().url, "--json"]), client) == 5
        with pytest.raises(CommandError) as raised:
            run(parser.parse_args(["video", camera.url]), client)
    out, err = capsys.readouterr()
    texts = [out, err, str(raised.value), *(path.read_bytes().decode("latin1") for path in tmp_path.glob("?.*"))]
    assert len(texts) == 6
    assert "rtsp://127.0.0.1" in out
    for text in texts:
        assert "cret" not in text
        assert "token" not in text
