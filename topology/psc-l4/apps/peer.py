#!/usr/bin/env python3
"""What a VM behind a Network Load Balancer sees, told to whoever asks.

TCP: for every `hello` it answers one line: this VM's name, the peer's address, the address that was
asked for, and all that was read, in hexadecimal (a PROXY header among it). After `leave` nobody
listens any more, and what is connected stays: a health check sees the VM fall ill.
UDP: answers every datagram with the same line.
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
        while True:
            more = connection.recv(4096)
            if not more:
                return
            read += more
            if read.endswith(b"leave\n"):
                listener.shutdown(socket.SHUT_RDWR)
            elif not read.endswith(b"hello\n"):
                continue
            connection.sendall(line(peer, connection.getsockname()[0], read))
            read = b""


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
    try:
        accepted, other = listener.accept()
    except OSError:
        break
    threading.Thread(target=stream, args=(accepted, other), daemon=True).start()
listener.close()
threading.Event().wait()
