"""Flag, environment, file, default: which counts, and what is never printed."""

import argparse
import os

import pytest

from fer_client.cli import main
from fer_client.command.connection import SETTINGS, add_settings, read_connection
from fer_commands.running import CommandError

SECRET = "s3cr3t-T0ken"


@pytest.fixture
def config(tmp_path):
    """Write the user's configuration file, readable by the owner alone; returns its path."""

    def write(text, mode=0o600):
        path = tmp_path / "config" / "fer-client" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def read(tmp_path):
    """Read settings as a command does, with a home of the test's own."""

    def run(*arguments, preferred=None, **environment):
        parser = argparse.ArgumentParser()
        add_settings(parser)
        variables = {"XDG_CONFIG_HOME": str(tmp_path / "config"), **environment}
        return read_connection(parser.parse_args(list(map(str, arguments))), variables, preferred=preferred)

    return run


def test_without_anything_the_client_s_own_defaults_count(read):
    connection = read()
    assert (connection.url, connection.protocol, connection.origin) == ("localhost", None, "the defaults")
    assert connection.arguments == {"headers": {}}


def test_the_command_line_counts_more_than_the_environment_and_that_more_than_the_file(read, config):
    path = config('url = "in-file"\ntimeout = 1.5\nretries = 7\n')
    connection = read(FER_TIMEOUT="2", FER_URL="")
    assert (connection.url, connection.origin) == ("in-file", f"{path}: url")
    assert (connection.arguments["timeout_s"], connection.arguments["retries"]) == (2.0, 7)
    connection = read("--url", "by-flag", "--timeout", "3", FER_TIMEOUT="2", FER_URL="in-environment")
    assert (connection.url, connection.origin) == ("by-flag", "--url")
    assert connection.arguments["timeout_s"] == 3.0
    assert read(FER_URL="in-environment").origin == "$FER_URL"


VALUES = {
    "url": ("host:1", "host:1"),
    "protocol": ("grpc", "grpc"),
    "timeout": ("2", 2.0),
    "deadline": ("3", 3.0),
    "retries": ("0", 0),
    "token_file": (SECRET, SECRET),
    "ca_cert": ("pem", "pem"),
    "client_cert": ("pem", "pem"),
    "client_key": ("pem", "pem"),
    "tls_server_name": ("name", "name"),
    "compression": ("gzip", "gzip"),
}
IN_TLS = {"ca_cert": "ca_file", "client_cert": "certificate_file", "client_key": "key_file"}


@pytest.mark.parametrize("place", ["flag", "environment", "file"])
@pytest.mark.parametrize("key", [setting.key for setting in SETTINGS])
def test_each_setting_can_come_from_each_place(read, config, tmp_path, monkeypatch, key, place):
    setting = next(setting for setting in SETTINGS if setting.key == key)
    text, value = VALUES[key]
    if setting.is_path:
        (tmp_path / "value").write_text(text)
        text = str(tmp_path / "value")
    if place == "flag":
        connection = read(setting.flag, text)
    elif place == "environment":
        connection = read(**{setting.variable: text})
    else:
        config(f'{key} = "{text}"\n')
        connection = read()
    found = {"url": connection.url, "protocol": connection.protocol, "token_file": connection.arguments.get("token")}
    found |= {f"{name}": connection.arguments.get(f"{name}_s") for name in ("timeout", "deadline")}
    found |= {name: connection.arguments.get(name) for name in ("retries", "compression")}
    if tls := connection.arguments.get("tls"):
        got = getattr(tls, IN_TLS.get(key, "server_name"))
        found[key] = got.read_text() if setting.is_path else got
    assert found[key] == value


def test_a_path_in_the_file_starts_at_the_file_s_folder(read, config):
    path = config('token_file = "token"\n')
    (path.parent / "token").write_text(f"{SECRET}\n")
    assert read().arguments["token"] == SECRET


def test_the_file_can_be_named(read, config, tmp_path):
    config('url = "default-file"\n')
    named = tmp_path / "named.toml"
    named.write_text('url = "named-file"\n')
    assert read().url == "default-file"
    assert read(FER_CONFIG=str(named)).url == "named-file"
    assert read("--config", named, FER_CONFIG="/missing").url == "named-file"


def test_headers_come_from_file_and_command_line(read, config):
    config('[headers]\nX-Tenant = "blue"\nX-Team = "a"\n', mode=0o644)
    headers = read("--header", "X-Team: b:c").arguments["headers"]
    assert headers == {"X-Tenant": "blue", "X-Team": "b:c"}


@pytest.mark.parametrize(
    ("arguments", "environment", "url", "protocol"),
    [
        ([], {"FER_URL": "http://a:1", "FER_GRPC_URL": "grpc://a:2"}, "http://a:1", None),
        (["--protocol", "grpc"], {"FER_URL": "http://a:1", "FER_GRPC_URL": "grpc://a:2"}, "grpc://a:2", "grpc"),
        (["--url", "http://b:1"], {"FER_PROTOCOL": "grpc", "FER_GRPC_URL": "grpc://a:2"}, "http://b:1", None),
        (["--url", "b"], {"FER_PROTOCOL": "grpc", "FER_GRPC_URL": "grpc://a:2"}, "b", "grpc"),
        (["--protocol", "grpc"], {"FER_URL": "http://a:1"}, "http://a:1", "grpc"),  # The client refuses that.
    ],
)
def test_url_and_protocol_of_different_places_agree_or_the_one_that_counts_more_decides(
    read, arguments, environment, url, protocol
):
    connection = read(*arguments, **environment)
    assert (connection.url, connection.protocol) == (url, protocol)


def test_a_grpc_url_is_not_taken_for_that_of_another_server(read):
    assert read("--url", "http://b:1", FER_GRPC_URL="grpc://a:2").grpc_url is None
    assert read(FER_URL="http://a:1", FER_GRPC_URL="grpc://a:2").grpc_url == "grpc://a:2"


@pytest.mark.parametrize(
    ("environment", "url", "protocol"),
    [
        ({}, "localhost", "grpc"),
        ({"FER_URL": "http://a:1"}, "http://a:1", None),
        ({"FER_URL": "http://a:1", "FER_GRPC_URL": "grpc://a:2"}, "grpc://a:2", "grpc"),
        ({"FER_PROTOCOL": "http"}, "localhost", "http"),
    ],
)
def test_a_preferred_protocol_counts_least(read, environment, url, protocol):
    connection = read(preferred="grpc", **environment)
    assert (connection.url, connection.protocol) == (url, protocol)


def test_certificates_of_the_file_do_not_concern_a_plain_url_of_the_command_line(read, config):
    path = config('url = "https://a"\nca_cert = "ca.pem"\n')
    (path.parent / "ca.pem").write_text("")
    assert read().arguments["tls"].ca_file == path.parent / "ca.pem"
    assert "tls" not in read("--url", "http://localhost").arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeout = 1\nurl = \n", "is not a valid TOML file: see line 2"),
        ("adress = 'a'", "unknown adress; known are url, protocol, "),
        ("timeout = 'soon'", "timeout: 'soon' is not a number of seconds, more than 0"),
        ("timeout = true", "timeout: expected a string or a number"),
        ("retries = -1", "retries: '-1' is not a whole number, 0 to 999"),
        ("protocol = 'ftp'", "protocol: 'ftp' is none of http, grpc"),
        ("ca_cert = 'missing.pem'", "cannot read .*missing.pem: No such file"),
        ("headers = 'X'", "headers: expected a table of names and values"),
        ("headers.X = 1", "headers: X: expected a string"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(read, config, text, message):
    path = config(text)
    with pytest.raises(CommandError, match=message) as caught:
        read()
    assert str(caught.value).startswith((str(path), f"cannot read {path}"))
    assert caught.value.exit_code == 2


def test_a_variable_that_is_wrong_is_named(read):
    with pytest.raises(CommandError, match=r"^\$FER_TIMEOUT: '0' is not a number of seconds"):
        read(FER_TIMEOUT="0")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--config", "missing.toml"], {}, "^--config: there is no file missing.toml"),
        ([], {"FER_CONFIG": "missing.toml"}, r"^\$FER_CONFIG: there is no file missing.toml"),
    ],
)
def test_a_file_that_is_named_has_to_be_there(read, arguments, environment, message):
    with pytest.raises(CommandError, match=message):
        read(*arguments, **environment)


def test_a_home_that_nobody_knows_is_no_defect(read, config, monkeypatch, tmp_path):
    """As in a container whose user has no entry in /etc/passwd."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no entry"])
    assert read(XDG_CONFIG_HOME="").url == "localhost"
    with pytest.raises(CommandError, match="--config: there is no file ~/f.toml"):
        read("--config", "~/f.toml")
    config('token_file = "~nobody-of-that-name/token"')
    with pytest.raises(CommandError, match="cannot read .*~nobody-of-that-name/token: No such file"):
        read()


@pytest.mark.parametrize("text", ['token_file = "a\\u0000b"', f'ca_cert = "{"a" * 300}"'])
def test_a_name_that_no_file_can_have_is_unreadable(read, config, text):
    config(text)
    with pytest.raises(CommandError, match="cannot read .*: (embedded null|File name too long)"):
        read()


def test_the_token_comes_from_the_place_that_counts_most(read, config, tmp_path):
    config('token = "of-the-file"\n')
    (tmp_path / "token").write_text("of-the-flag\n")
    assert read().arguments["token"] == "of-the-file"
    assert read(FER_TOKEN="of-the-environment").arguments["token"] == "of-the-environment"
    by_flag = read("--token-file", tmp_path / "token", FER_TOKEN="of-the-environment")
    assert by_flag.arguments["token"] == "of-the-flag"
    with pytest.raises(CommandError, match=r"both \$FER_TOKEN and \$FER_TOKEN_FILE are set"):
        read(FER_TOKEN="a", FER_TOKEN_FILE=str(tmp_path / "token"))


def test_the_files_secrets_go_to_no_other_server_than_it_names(read, config):
    config('url = "https://ours.example"\ntoken = "of-the-file"\nheaders.X-API-Key = "too"\n')
    assert read().arguments["token"] == "of-the-file"
    assert read("--url", "https://ours.example").arguments["token"] == "of-the-file"
    for elsewhere in (read("--url", "https://other.example"), read(FER_URL="https://other.example")):
        assert "token" not in elsewhere.arguments
        assert elsewhere.arguments["headers"] == {}
    by_environment = read("--url", "https://other.example", FER_TOKEN="of-the-environment")
    assert by_environment.arguments["token"] == "of-the-environment"


def test_the_secrets_of_a_file_that_names_no_server_go_to_the_one_given(read, config):
    config('token = "of-the-file"\n')
    assert read("--url", "https://other.example").arguments["token"] == "of-the-file"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("text", [f'token = "{SECRET}"', f'headers.X-API-Key = "{SECRET}"'])
def test_a_secret_in_a_file_that_others_can_read_is_refused(read, config, text):
    config(text, mode=0o640)
    with pytest.raises(CommandError, match="other users of this machine can read: chmod 600") as caught:
        read()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n", "two words", "caf\xe9"])
def test_a_token_that_cannot_be_sent_is_refused_without_repeating_it(read, tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(CommandError, match="token holds no token: expected one line of ASCII") as caught:
        read("--token-file", tmp_path / "token")
    assert text.strip() == "" or text not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--token", SECRET],
        [f"--token={SECRET}"],
        ["--header", SECRET],
        ["--header", f"Bad Name: {SECRET}"],
        ["--header", f"X: a\n{SECRET}"],
        ["--header", f"Host: {SECRET}"],
        ["--url", f"http://user:{SECRET}@localhost:8000"],
        ["--config", "{config}"],
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_no_message_repeats_a_secret(arguments, debug, config, capsys, monkeypatch):
    path = config(f'token = "{SECRET}" "twice"\n')
    for name in ("FER_URL", "FER_GRPC_URL"):
        monkeypatch.delenv(name, raising=False)
    try:
        code = main(["health", *(argument.replace("{config}", str(path)) for argument in arguments), *debug])
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    assert code == 2
    assert "fer-client" in err
    assert SECRET not in out + err


def test_a_token_on_the_command_line_is_told_where_to_go(capsys):
    with pytest.raises(SystemExit):
        main(["health", "--token", SECRET])
    assert "use --token-file FILE, or set $FER_TOKEN" in capsys.readouterr().err


def test_nothing_that_holds_a_secret_shows_it(read):
    assert SECRET not in repr(read(FER_TOKEN=SECRET))
