"""How a connection is encrypted: whom to trust, and who we are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class Tls:
    """What an encrypted connection needs beyond the defaults. The server's certificate and name are always verified.

    Attributes:
        ca_file: PEM file of the authorities that sign the server's certificate; None trusts the system's over HTTP, and
            the list that gRPC brings over gRPC.
        certificate_file: PEM file of this client's own certificate and its chain, where the server asks for one.
        key_file: PEM file of its private key, without a passphrase; None takes it from `certificate_file`.
        server_name: Name that the server's certificate must bear, where that is not the host of the URL.
    """

    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def ssl_context(self) -> ssl.SSLContext:
        """The files as the standard library wants them, read and checked.

        Raises:
            ValueError: A file cannot be read, is not what it should be, or key and certificate do not belong together.
        """
        import ssl  # Not at the top, so that `import fer_client` stays light.

        authorities, certificate, _ = self.pem_files()
        try:
            context = ssl.create_default_context(cadata=None if authorities is None else authorities.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"TLS: {self.ca_file} holds no PEM certificates ({error})") from error
        if certificate is not None and self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password=_no_passphrase)
            except ssl.SSLError as error:
                files = " and ".join(str(name) for name in (self.certificate_file, self.key_file) if name is not None)
                raise ValueError(
                    f"TLS: {files} are no PEM certificate and its own private key ({error.reason or error})"
                ) from error
        return context

    def pem_files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What is in the files of authorities, own certificate and own key; None for one that there is not.

        Raises:
            ValueError: A file cannot be read, or there is a key without a certificate.
        """
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError(f"TLS: the key {os.fspath(self.key_file)} comes without its certificate: give both")
        authorities, certificate, key = map(_content, (self.ca_file, self.certificate_file, self.key_file))
        return authorities, certificate, key or certificate


def _content(file: str | os.PathLike[str] | None) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"TLS: cannot read {os.fspath(file or '')}: {error.strerror}") from error


def _no_passphrase() -> NoReturn:
    """Instead of OpenSSL's own question on the terminal, which a service would wait for without an end."""
    raise ValueError("TLS: the private key asks for a passphrase: give one without, readable by this user alone")
