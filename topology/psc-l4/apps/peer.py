#!/usr/bin/env python3
"""What a VM behind a Network Load Balancer sees, told to whoever asks.

TCP: reads to the first newline, and answers one line: this VM's name, the peer's address, the
address that was asked for, and all that was read, in hexadecimal (a PROXY header among it).
UDP: answers every datagram with the same.
"""
import socket
import sys
import threading

NAME, PORT = sys.argv[1], int(sys.argv[2])
BOUND = sys.argv[3:]  # addresses for UDP answers: those of load balancers, or nothing


def line(peer, own, read):
    return f"{NAME} peer={peer[0]} local={own} read={read.hex()}\n".encode()


def stream(connection, peer):
    with connection:
        read = b""
        while not read.endswith(b"\n"):
            more = connection.recv(4096)
            if not more:
                break
            read += more
        if read:
            connection.sendall(line(peer, connection.getsockname()[0], read))


def datagrams(address):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address may come later
    own.bind((address, PORT))
    while True:
        read, peer = own.recvfrom(65535)
        own.sendto(line(peer, address, read), peer)


for one in BOUND:
    threading.Thread(target=datagrams, args=(one,), daemon=True).start()
listener = socket.create_server(("0.0.0.0", PORT), backlog=128)
while True:
    accepted, other = listener.accept()
    threading.Thread(target=stream, args=(accepted, other), daemon=True).start()
