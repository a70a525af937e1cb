"""A ComfyUI's WebSocket, read with the standard library alone."""

import base64
import json
import os
import socket
import struct


class EventStream:
    """The WebSocket of a client."""

    def __init__(self, port: int, client_id: str, timeout: float):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        request = [
            f"GET /ws?clientId={client_id} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall(("\r\n".join(request) + "\r\n\r\n").encode())
        while self._file.readline() not in (b"\r\n", b""):
            pass

    def __iter__(self):
        """Yield (type, data) of every text message."""
        for opcode, payload in self.frames():
            if opcode == 1:
                message = json.loads(payload)
                yield message["type"], message["data"]

    def frames(self):
        """Yield (opcode, payload) of every frame; 1 is text, 2 is binary."""
        while header := self._file.read(2):
            opcode, length = header[0] & 0x0F, header[1] & 0x7F
            if length >= 126:
                form = ">H" if length == 126 else ">Q"
                (length,) = struct.unpack(form, self._file.read(struct.calcsize(form)))
            yield opcode, self._file.read(length)

    def close(self) -> None:
        self._file.close()
        self._socket.close()
