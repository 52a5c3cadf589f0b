"""A name server for corp.example: Python's standard library, nothing else.

Answers over UDP and TCP. It does not resolve further: the target of its CNAME record is none of its
names, and whoever asks has to look it up elsewhere.
"""

import socketserver
import struct
import threading

A, CNAME, SOA = 1, 5, 6
NAMES = {
    b"corp.example": (SOA, None),
    b"printer.corp.example": (A, bytes([10, 10, 0, 9])),
    b"shop.corp.example": (CNAME, b"\x03api\x04shop\x07example\x00"),
}
ZONE = b"\x04corp\x07example\x00"
START = b"\x02ns" + ZONE + b"\x00" + struct.pack("!IIIII", 1, 3600, 600, 86400, 60)
START = ZONE + struct.pack("!HHIH", SOA, 1, 300, len(START)) + START


def answer(message):
    """The response to one query."""
    name, at = [], 12
    while message[at]:
        name.append(message[at + 1 : at + 1 + message[at]].lower())
        at += 1 + message[at]
    kind, _ = struct.unpack_from("!HH", message, at + 1)
    question = message[12 : at + 5]
    name = b".".join(name)
    code, records, authority = 0, b"", b""
    held = NAMES.get(name)
    if held and held[1] and held[0] in (kind, CNAME):
        records = b"\xc0\x0c" + struct.pack("!HHIH", held[0], 1, 60, len(held[1])) + held[1]
    else:
        code = 0 if held else 3 if name.endswith(b"corp.example") else 5
        authority = START if code != 5 else b""
    counts = (1, 1 if records else 0, 1 if authority else 0, 0)
    return message[:2] + struct.pack("!HHHHH", 0x8400 | code, *counts) + question + records + authority


class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        message, socket = self.request
        socket.sendto(answer(message), self.client_address)


class Stream(socketserver.StreamRequestHandler):
    def handle(self):
        while len(head := self.rfile.read(2)) == 2:
            response = answer(self.rfile.read(struct.unpack("!H", head)[0]))
            self.wfile.write(struct.pack("!H", len(response)) + response)


socketserver.ThreadingTCPServer.allow_reuse_address = True
streams = socketserver.ThreadingTCPServer(("0.0.0.0", 53), Stream)
threading.Thread(target=streams.serve_forever, daemon=True).start()
socketserver.ThreadingUDPServer(("0.0.0.0", 53), Datagram).serve_forever()
